import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { referencePage } from "./generate.ts";

describe("REFERENCE.md", () => {
  it("is what generate.ts writes", async () => {
    const written = readFileSync(new URL("REFERENCE.md", import.meta.url), "utf8");

    assert.equal(written, await referencePage(), "run node engine/generate.ts");
  });

  it("holds every setting, endpoint, metric and error code", async () => {
    const page = await referencePage();

    for (const text of [
      "`--max-model-len` | `QUIRE_MAX_MODEL_LEN`",
      "`POST /v1/chat/completions`",
      "`temperature` | number | at least 0; at most 2 | 0 is greedy",
      "`quire_kv_tokens_in_use` | gauge",
      "`vllm:iteration_tokens_total` | histogram",
      "`queue_full` | 429",
      "`body_too_large` (413)",
    ]) {
      assert.ok(page.includes(text), text);
    }
  });
});
