import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { readTermination } from "./termination.ts";

describe("readTermination", () => {
  it("explains an end by the engine's own words once, and only if they are whole", async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "quire-termination-"));
    t.after(() => rm(folder, { recursive: true }));
    const [words, log] = [join(folder, "words"), join(folder, "log")];
    const message = { code: "X", message: "why", remedy: "do" };
    const end = { exitCode: null, signal: "SIGSEGV" };
    const read = () => readTermination(words, log, end);

    await writeFile(words, JSON.stringify(message));
    assert.deepEqual(await read(), message);
    assert.equal((await read()).message, "the engine ended by SIGSEGV");
    await writeFile(words, JSON.stringify(message).slice(0, 20));
    assert.equal((await read()).code, "ENGINE_ENDED");
    await writeFile(words, '{"code":1}');
    assert.equal((await read()).code, "ENGINE_ENDED");
  });
});
