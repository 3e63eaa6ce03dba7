import assert from "node:assert/strict";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";

import { openCheckpoint } from "../checkpoint/checkpoint.ts";

import type { Checkpoint, TensorEntry } from "./model-spec.ts";
import { ReferenceForward } from "./reference-forward.ts";
import { buildModel } from "./registry.ts";

const fixtures = join(import.meta.dirname, "fixtures");

interface GoldenCase {
  readonly id: string;
  readonly promptTokenIds: readonly number[];
  readonly maxModelLen?: number;
  readonly tokenIds: readonly number[];
  readonly rows: Readonly<Record<string, readonly number[]>>;
}

describe("buildModel on checkpoints that Transformers computed", () => {
  const names = readdirSync(fixtures).filter((name) =>
    existsSync(join(fixtures, name, "golden.json")),
  );
  for (const name of names) {
    const folder = join(fixtures, name);
    const golden = JSON.parse(readFileSync(join(folder, "golden.json"), "utf8"));
    for (const path of [folder, join(folder, "model.gguf")].filter(existsSync)) {
      it(`computes the same logits and tokens: ${path.slice(fixtures.length + 1)}`, async () => {
        const checkpoint = await openCheckpoint(path);
        for (const golden_ of golden.cases as GoldenCase[]) checkCase(checkpoint, golden_);
      });
    }
  }
  assert.equal(names.length, 9);
});

function checkCase(checkpoint: Checkpoint, golden: GoldenCase): void {
  const { maxModelLen, promptTokenIds, tokenIds } = golden;
  const model = buildModel(checkpoint, {
    readFloats: (entry) => new Float32Array(readBytes(checkpoint.files, entry).buffer),
    ...(maxModelLen === undefined ? {} : { maxModelLen }),
  });
  const reference = new ReferenceForward(model, (slice) => readBytes(model.files, slice));
  const logits = reference.logits([...promptTokenIds, ...tokenIds]);

  for (const [position, expected] of Object.entries(golden.rows)) {
    const row = logits[Number(position)] ?? new Float64Array();
    const worst = Math.max(...expected.map((value, i) => Math.abs(value - (row[i] ?? Number.NaN))));
    assert.ok(worst < 1e-3, `${golden.id}: logits at ${position} differ by ${worst}`);
  }
  const greedy = logits
    .slice(promptTokenIds.length - 1, -1)
    .map((row) => row.indexOf(Math.max(...row)));
  assert.deepEqual(greedy, tokenIds, golden.id);
}

function readBytes(
  files: readonly string[],
  { file, offset, byteLength }: Pick<TensorEntry, "file" | "offset" | "byteLength">,
): Uint8Array {
  const bytes = new Uint8Array(byteLength);
  const handle = openSync(files[file] ?? "", "r");
  readSync(handle, bytes, 0, byteLength, offset);
  closeSync(handle);
  return bytes;
}
