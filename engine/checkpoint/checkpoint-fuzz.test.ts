import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";

import { EngineError } from "../errors.ts";
import { openCheckpoint } from "./checkpoint.ts";
import { readGguf } from "./gguf.ts";
import type { HeaderSource } from "./header-source.ts";
import { readSafetensors } from "./safetensors.ts";
import {
  aGguf,
  aSafetensors,
  ggufArray,
  ggufString,
  random,
  sourceOf,
  temporaryFolder,
  u32,
} from "./testing.ts";

/**
 * Seeded mutations of valid files: each outcome is a checkpoint whose ranges lie in the file, or
 * CHECKPOINT_INVALID. What a reader takes at once is bounded by the file and its window.
 */
describe("the readers of untrusted headers", () => {
  it("survive 20,000 mutated GGUF files", () => {
    const whole = aGguf({
      metadata: [
        ["general.architecture", [8, ggufString("llama")]],
        ["general.alignment", [4, u32(32)]],
        ["tokens", ggufArray(8, 3, Buffer.concat(["a", "bc", "▁d"].map((t) => ggufString(t))))],
        ["scores", ggufArray(6, 3, Buffer.alloc(12))],
        ["flags", ggufArray(7, 2, Buffer.from([0, 1]))],
        ["big", [10, Buffer.alloc(8, 0xff)]],
      ],
      tensors: [
        { name: "a", ne: [32, 2], type: 2, offset: 0 },
        { name: "b", ne: [16], type: 0, offset: 64 },
        { name: "c", ne: [32, 2], type: 1, offset: 128 },
      ],
    });

    const outcomes = fuzz(whole, 20_000, (source) => readGguf(source).tensors);

    assert.ok(outcomes.opened > 500, `only ${outcomes.opened} files were opened`);
    assert.ok(outcomes.refused > 10_000, `only ${outcomes.refused} files were refused`);
  });

  it("survive 20,000 mutated safetensors files", () => {
    const whole = aSafetensors(
      {
        __metadata__: { format: "pt" },
        "a.weight": { dtype: "BF16", shape: [4, 2], data_offsets: [0, 16] },
        "b.weight": { dtype: "F32", shape: [4], data_offsets: [16, 32] },
      },
      32,
    );

    const outcomes = fuzz(whole, 20_000, (source) => readSafetensors(source, 0));

    assert.ok(outcomes.opened > 200, `only ${outcomes.opened} files were opened`);
    assert.ok(outcomes.refused > 10_000, `only ${outcomes.refused} files were refused`);
  });

  it("survive 1,000 mutated folders", async () => {
    using folder = temporaryFolder();
    const tensor = { dtype: "F32", shape: [1], data_offsets: [0, 4] };
    const files = {
      "config.json": Buffer.from(`{"model_type": "llama", "layers": [1, {"a": null}]}`),
      "tokenizer.json": Buffer.from(`{"version": "1.0"}`),
      "tokenizer_config.json": Buffer.from(`{"chat_template": [{"name": "default"}]}`),
      "model.safetensors.index.json": Buffer.from(
        `{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}`,
      ),
      "m-1.safetensors": aSafetensors({ a: tensor }, 4),
      "m-2.safetensors": aSafetensors({ b: tensor }, 4),
    };
    const names = Object.keys(files) as (keyof typeof files)[];
    for (const name of names) writeFileSync(join(folder.path, name), files[name]);
    const outcomes = { opened: 0, refused: 0 };
    for (let seed = 0; seed < 1_000; seed++) {
      const name = names[seed % names.length] ?? "config.json";
      writeFileSync(join(folder.path, name), mutate(files[name], random(seed)));

      await openCheckpoint(folder.path).then(
        () => outcomes.opened++,
        (error) => {
          assertInvalid(error, seed);
          outcomes.refused++;
        },
      );

      writeFileSync(join(folder.path, name), files[name]);
    }
    assert.ok(outcomes.opened > 50 && outcomes.refused > 300, JSON.stringify(outcomes));
  });
});

type Ranges = readonly { readonly offset: number; readonly byteLength: number }[];

function fuzz(whole: Buffer, count: number, read: (source: HeaderSource) => Ranges) {
  const outcomes = { opened: 0, refused: 0 };
  for (let seed = 0; seed < count; seed++) {
    const bytes = mutate(whole, random(seed));
    const source = boundedSourceOf(bytes, seed);
    const start = performance.now();
    try {
      for (const { offset, byteLength } of read(source)) {
        assert.ok(offset + byteLength <= bytes.length, `seed ${seed}: a range outside the file`);
      }
      outcomes.opened++;
    } catch (error) {
      assertInvalid(error, seed);
      outcomes.refused++;
    }
    const milliseconds = performance.now() - start;
    assert.ok(milliseconds < 2_000, `seed ${seed}: took ${milliseconds} ms`);
  }
  return outcomes;
}

function boundedSourceOf(bytes: Buffer, seed: number): HeaderSource {
  const source = sourceOf(bytes);
  return {
    ...source,
    read(target, position) {
      assert.ok(target.length <= bytes.length, `seed ${seed}: took ${target.length} bytes`);
      source.read(target, position);
    },
  };
}

function assertInvalid(error: unknown, seed: number): void {
  assert.ok(error instanceof EngineError, `seed ${seed}: ${String(error)}`);
  assert.equal(error.code, "CHECKPOINT_INVALID", `seed ${seed}`);
}

/** Values at which sizes overflow, turn negative or stop being exact. */
const extremes = [0n, 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];

/** One to three changes: bytes, extreme integers, cuts, repeats, and swapped JSON tokens. */
function mutate(whole: Buffer, next: () => number): Buffer {
  let bytes: Buffer = Buffer.from(whole);
  const changeCount = 1 + Math.floor(next() * 3);
  for (let i = 0; i < changeCount; i++) bytes = change(bytes, next);
  return bytes;
}

function change(bytes: Buffer, next: () => number): Buffer {
  const at = Math.floor(next() * bytes.length);
  const to = Math.min(bytes.length, at + Math.ceil(next() * 16));
  switch (Math.floor(next() * 6)) {
    case 0:
      if (at < bytes.length) bytes[at] = Math.floor(next() * 256);
      return bytes;
    case 1:
      if (bytes.length < at + 8) return bytes;
      bytes.writeBigUInt64LE(extremes[Math.floor(next() * extremes.length)] ?? 0n, at);
      return bytes;
    case 2:
      return bytes.subarray(0, at);
    case 3:
      return Buffer.concat([bytes.subarray(0, to), bytes.subarray(at)]);
    case 4:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(to)]);
    default: {
      const tokens = ["{", "}", "[", "]", '"', ",", ":", "-", "9", "null", "1e999", "\\u0061"];
      const token = tokens[Math.floor(next() * tokens.length)] ?? "";
      return Buffer.concat([bytes.subarray(0, at), Buffer.from(token), bytes.subarray(at)]);
    }
  }
}
