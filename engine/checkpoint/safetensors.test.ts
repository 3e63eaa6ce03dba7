import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { EngineError } from "../errors.ts";
import { readSafetensors } from "./safetensors.ts";
import { aSafetensors, sourceOf, u64 } from "./testing.ts";

describe("readSafetensors", () => {
  it("reads tensors at their place in the file, in the order of their data", () => {
    const bytes = aSafetensors(
      {
        __metadata__: { format: "pt" },
        b: { dtype: "F32", shape: [1], data_offsets: [12, 16] },
        a: { dtype: "BF16", shape: [2, 3], data_offsets: [0, 12] },
      },
      16,
    );

    const tensors = readSafetensors(sourceOf(bytes), 5);

    const dataStart = bytes.length - 16;
    assert.deepEqual(tensors, [
      { name: "a", type: "BF16", shape: [2, 3], file: 5, offset: dataStart, byteLength: 12 },
      { name: "b", type: "F32", shape: [1], file: 5, offset: dataStart + 12, byteLength: 4 },
    ]);
  });

  it("reads scalars, F16, padding after the header, and escaped names", () => {
    const header = ` {"\\u0061\\"[{:": {"dtype": "F16", "shape": [], "data_offsets": [0, 2]}}   `;

    const [tensor] = readSafetensors(sourceOf(aSafetensors(header, 2)), 0);

    assert.equal(tensor?.name, 'a"[{:');
    assert.deepEqual(tensor?.shape, []);
    assert.equal(tensor?.byteLength, 2);
  });

  const entry = (dtype: unknown, shape: unknown, offsets: unknown) =>
    aSafetensors({ w: { dtype, shape, data_offsets: offsets } }, 16);
  const good = `{"dtype":"F32","shape":[4],"data_offsets":[0,16]}`;
  const hostile: [string, Buffer, RegExp][] = [
    ["an empty file", Buffer.alloc(0), /0 bytes are too few/],
    ["a file of 7 bytes", Buffer.alloc(7), /7 bytes are too few/],
    [
      "a header of 2^64 bytes",
      Buffer.concat([u64(2n ** 64n - 1n), Buffer.alloc(64)]),
      /a header of 18446744073709551615 bytes does not fit in a file of 72/,
    ],
    ["a header longer than the file", u64(1), /a header of 1 bytes does not fit in a file of 8/],
    ["a header of no bytes", aSafetensors("", 0), /not valid JSON/],
    ["a header that is not JSON", aSafetensors("{", 0), /not valid JSON/],
    ["an array as header", aSafetensors("[]", 0), /the JSON is not an object/],
    ["null as header", aSafetensors("null", 0), /the JSON is not an object/],
    [
      "a header that is not UTF-8",
      aSafetensors(Buffer.from([0x22, 0xff, 0x22])),
      /not valid UTF-8/,
    ],
    [
      "a header that nests 100,000 deep",
      aSafetensors(`{"a":${"[".repeat(100_000)}`),
      /JSON nests deeper than 64/,
    ],
    [
      "a header of five million values",
      aSafetensors(`{"a":[${"0,".repeat(5_000_000)}0]}`),
      /JSON holds more than 4000000 values/,
    ],
    [
      "a repeated name",
      aSafetensors(`{"w":${good},"v":{"a":1},"\\u0077":${good}}`),
      /the JSON repeats the key "w"/,
    ],
    [
      "a repeated shape",
      aSafetensors(`{"w":{"dtype":"F32","shape":[9],"shape":[4],"data_offsets":[0,16]}}`),
      /the JSON repeats the key "shape"/,
    ],
    ["an entry that is no object", aSafetensors({ w: 1 }), /tensor "w": its header entry is not/],
    ["an entry that is a list", aSafetensors({ w: [] }), /its header entry is not an object/],
    ["a type that is not supported", entry("F8_E4M3", [16], [0, 16]), /type "F8_E4M3" is not/],
    ["a GGUF block type", entry("Q4_0", [32], [0, 16]), /type "Q4_0" is not supported/],
    ["a type that is not text", entry({ a: 1 }, [4], [0, 16]), /type "\[object Object\]" is not/],
    ["a missing type", entry(undefined, [4], [0, 16]), /type "undefined" is not supported/],
    ["a missing shape", entry("F32", undefined, [0, 16]), /shape is not a list of integers/],
    ["a shape of text", entry("F32", ["4"], [0, 16]), /shape is not a list of integers/],
    ["a negative shape", entry("F32", [-4], [0, 16]), /shape is not a list of integers/],
    ["a fraction in a shape", entry("F32", [4.5], [0, 16]), /shape is not a list of integers/],
    ["a shape of 2^53", entry("F32", [2 ** 53], [0, 16]), /shape is not a list of integers/],
    ["an empty dimension", entry("F32", [4, 0], [0, 0]), /shape \[4,0\] has an empty dimension/],
    ["nine dimensions", entry("F32", new Array(9).fill(1), [0, 4]), /9 dimensions exceed 8/],
    [
      "a size that overflows 64 bits",
      entry("F32", [2 ** 32, 2 ** 32, 2 ** 32], [0, 16]),
      /is larger than any file/,
    ],
    ["missing offsets", entry("F32", [4], undefined), /data_offsets is not a list/],
    ["one offset", entry("F32", [4], [0]), /data_offsets is not a pair/],
    ["three offsets", entry("F32", [4], [0, 16, 16]), /data_offsets is not a pair/],
    ["an offset that is a fraction", entry("F32", [4], [0.5, 16.5]), /data_offsets is not a list/],
    [
      "fewer bytes than the shape takes",
      entry("F32", [4], [0, 12]),
      /tensor "w": data_offsets \[0,12\] hold 12 bytes, but F32 of shape \[4\] takes 16 \(at byte/,
    ],
    [
      "more bytes than the shape takes",
      entry("F32", [3], [0, 16]),
      /hold 16 bytes, but .* takes 12/,
    ],
    ["offsets in reverse", entry("F32", [4], [16, 0]), /data_offsets \[16,0\] hold -16 bytes/],
    [
      "data behind the file",
      entry("F32", [4], [16, 32]),
      /tensor "w": its 16 bytes end at byte \d+ of a file of \d+/,
    ],
    [
      "a range that ends near 2^53",
      entry("F32", [4], [2 ** 53 - 17, 2 ** 53 - 1]),
      /its 16 bytes end at byte/,
    ],
    [
      "tensors that overlap",
      aSafetensors({
        a: { dtype: "F32", shape: [3], data_offsets: [0, 12] },
        b: { dtype: "F32", shape: [2], data_offsets: [8, 16] },
      }),
      /tensor "b": overlaps tensor "a"/,
    ],
    [
      "bytes between tensors",
      aSafetensors({
        a: { dtype: "F32", shape: [1], data_offsets: [0, 4] },
        b: { dtype: "F32", shape: [2], data_offsets: [8, 16] },
      }),
      /tensor "b": 4 bytes before it belong to no tensor/,
    ],
    [
      "bytes after the last tensor",
      aSafetensors({ a: { dtype: "F32", shape: [3], data_offsets: [0, 12] } }),
      /4 bytes at the end belong to no tensor/,
    ],
  ];
  for (const [name, bytes, message] of hostile) {
    it(`refuses ${name}`, () => {
      assert.throws(
        () => readSafetensors(sourceOf(bytes, "/m.safetensors"), 0),
        (error) => {
          assert.ok(error instanceof EngineError, String(error));
          assert.equal(error.code, "CHECKPOINT_INVALID");
          assert.match(error.message, message);
          assert.ok(error.message.startsWith("/m.safetensors: "), error.message);
          return true;
        },
      );
    });
  }

  it("refuses a header over its limit before it takes memory for it", () => {
    const source = {
      file: "/m.safetensors",
      size: 2 ** 40,
      read(target: Uint8Array) {
        assert.equal(target.length, 8);
        u64(2 ** 27).copy(target);
      },
    };
    assert.throws(
      () => readSafetensors(source, 0),
      /a header of 134217728 bytes exceeds the limit of 67108864/,
    );
  });
});
