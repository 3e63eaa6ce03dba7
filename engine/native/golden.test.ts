/** The device against what Transformers computed on random checkpoints of every architecture. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, it } from "node:test";
import { openCheckpoint } from "../checkpoint/checkpoint.ts";
import { tensorFloats } from "../checkpoint/tensor-floats.ts";
import type { DeviceOptions } from "../device.ts";
import type { Model } from "../models/model-spec.ts";
import { buildModel } from "../models/registry.ts";
import {
  agreement,
  elementOf,
  logSoftmax,
  openDevice,
  openRequest,
  runAlone,
  submitChunks,
  teacherForce,
  waitForSamples,
} from "./device-testing.ts";

interface GoldenCase {
  readonly id: string;
  readonly promptTokenIds: readonly number[];
  readonly maxModelLen?: number;
  readonly tokenIds: readonly number[];
  readonly logprobs: readonly number[];
  readonly margins: readonly number[];
  /** Logits of the whole vocabulary by position. */
  readonly rows: Readonly<Record<string, readonly number[]>>;
}

const fixtures = path.join(import.meta.dirname, "../models/fixtures");
const names = readdirSync(fixtures).filter((name) =>
  existsSync(path.join(fixtures, name, "golden.json")),
);
const checkpoints = names
  .flatMap((name) => [name, path.join(name, "model.gguf")])
  .filter((name) => existsSync(path.join(fixtures, name)));

describe("the device on checkpoints that Transformers computed", () => {
  for (const name of checkpoints) {
    it(`generates the same tokens in float32: ${name}`, async () => {
      for (const golden of goldenCases(name)) {
        await withDevice(name, golden, { dtype: "float32" }, (device) => {
          const { promptTokenIds, tokenIds } = golden;
          const request = { row: 0, promptTokenIds, count: tokenIds.length };
          const sampled = runAlone(device, { ...request, chunkSize: 24 });

          assert.deepEqual(
            sampled.map(({ tokenId }) => tokenId),
            tokenIds,
            golden.id,
          );
          for (const [i, { logprob }] of sampled.entries()) {
            // float32 on both sides, and cosines that differ in their last bit.
            assert.ok(
              Math.abs(logprob - elementOf(golden.logprobs, i)) < 2e-3,
              `${golden.id} ${i}`,
            );
          }
        });
      }
    });

    it(`has the same logits at every recorded position: ${name}`, async () => {
      for (const golden of goldenCases(name)) {
        await withDevice(name, golden, { dtype: "float32" }, (device) => {
          assertRows(device, golden);
        });
      }
    });

    it(`keeps to the same tokens over two ranks, or refuses to divide one KV head: ${name}`, async () => {
      const golden = elementOf(goldenCases(name), 1);
      const { kvHeadCount } = (await modelOf(name, golden)).spec;
      const twoRanks = { dtype: "float32", tensorParallel: 2 } as const;
      if (kvHeadCount % 2 !== 0) {
        const refusal = new RegExp(`tensorParallel 2 does not divide .* ${kvHeadCount} KV heads`);
        await assert.rejects(
          withDevice(name, golden, twoRanks, () => assert.fail("opened")),
          refusal,
        );
        return;
      }
      await withDevice(name, golden, twoRanks, (device) => {
        const { promptTokenIds, tokenIds } = golden;
        const sampled = runAlone(device, { row: 0, promptTokenIds, count: tokenIds.length });

        assert.deepEqual(
          sampled.map(({ tokenId }) => tokenId),
          tokenIds,
        );
      });
    });

    it(`leaves the greedy path in bfloat16 only where it is narrow: ${name}`, async () => {
      for (const golden of goldenCases(name)) {
        await withDevice(name, golden, { dtype: "bfloat16" }, (device) => {
          const steps = teacherForce(device, golden.promptTokenIds, golden.tokenIds);
          const { wrongMargins, medianDistance } = agreement(steps, golden);

          // bfloat16: 8 bits of mantissa. Random models of width 64 are touchy: a log-probability
          // moves by 0.02 as a rule and by 0.4 at worst, and a margin by twice that.
          assert.ok(Math.max(0, ...wrongMargins) < 0.8, `${golden.id}: ${wrongMargins}`);
          assert.ok(wrongMargins.length <= 0.15 * steps.length, `${golden.id}: ${wrongMargins}`);
          assert.ok(medianDistance < 0.05, `${golden.id}: ${medianDistance}`);
        });
      }
    });
  }
});

type TestDevice = ReturnType<typeof openDevice>;

/** Recorded logits, seen through the most likely tokens of a step that ends at their position. */
function assertRows(device: TestDevice, golden: GoldenCase): void {
  const tokenIds = [...golden.promptTokenIds, ...golden.tokenIds];
  openRequest(device, { row: 0, promptTokenIds: tokenIds, count: 0 });
  let start = 0;
  const positions = Object.keys(golden.rows).map(Number);
  for (const position of positions.toSorted((a, b) => a - b)) {
    const chunk = tokenIds.slice(start, position + 1);
    submitChunks(device, [{ row: 0, start, tokenIds: chunk, samples: true }]);
    start = position + 1;
    const expected = logSoftmax(elementOf(Object.values(golden.rows), positions.indexOf(position)));
    const { top } = elementOf(waitForSamples(device), 0);
    for (const [tokenId, logprob] of top) {
      // Recorded to a few digits, by float32.
      const distance = Math.abs(logprob - elementOf(expected, tokenId));
      assert.ok(
        distance < 3e-3,
        `${golden.id}, position ${position}, token ${tokenId}: ${distance}`,
      );
    }
  }
}

async function withDevice(
  name: string,
  golden: GoldenCase,
  changes: Partial<DeviceOptions>,
  use: (device: TestDevice) => void,
): Promise<void> {
  const device = openDevice(await modelOf(name, golden), { maxModelLen: 160, ...changes });
  try {
    use(device);
  } finally {
    device.close();
  }
}

async function modelOf(name: string, { maxModelLen }: GoldenCase): Promise<Model> {
  const checkpoint = await openCheckpoint(path.join(fixtures, name));
  return buildModel(checkpoint, {
    readFloats: (entry) => tensorFloats(checkpoint, entry),
    ...(maxModelLen === undefined ? {} : { maxModelLen }),
  });
}

function goldenCases(name: string): readonly GoldenCase[] {
  const folder = path.join(fixtures, elementOf(name.split(path.sep), 0));
  const text = readFileSync(path.join(folder, "golden.json"), "utf8");
  return (JSON.parse(text) as { cases: readonly GoldenCase[] }).cases;
}
