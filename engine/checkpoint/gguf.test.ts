import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { EngineError } from "../errors.ts";
import { readGguf } from "./gguf.ts";
import {
  aGguf,
  type EncodedValue,
  type GgufParts,
  ggufArray,
  ggufString,
  sourceOf,
  u32,
  u64,
} from "./testing.ts";

describe("readGguf", () => {
  it("reads tensors outermost dimension first, at their place in the file", () => {
    const bytes = aGguf({
      tensors: [
        { name: "b", ne: [32, 2], type: 2, offset: 64 },
        { name: "a", ne: [16], type: 0, offset: 0 },
      ],
    });

    const { tensors } = readGguf(sourceOf(bytes));

    const dataStart = bytes.length - 256;
    assert.deepEqual(tensors, [
      { name: "a", type: "F32", shape: [16], file: 0, offset: dataStart, byteLength: 64 },
      { name: "b", type: "Q4_0", shape: [2, 32], file: 0, offset: dataStart + 64, byteLength: 36 },
    ]);
  });

  it("counts the bytes of each block type", () => {
    const cases = [
      [0, 256, 1024],
      [1, 256, 512],
      [30, 256, 512],
      [2, 256, 144],
      [3, 256, 160],
      [6, 256, 176],
      [7, 256, 192],
      [8, 256, 272],
      [12, 256, 144],
      [13, 256, 176],
      [14, 256, 210],
    ] as const;
    for (const [type, columns, byteLength] of cases) {
      const bytes = aGguf({ tensors: [{ ne: [columns, 3], type }], dataBytes: byteLength * 3 });

      assert.equal(
        readGguf(sourceOf(bytes)).tensors[0]?.byteLength,
        byteLength * 3,
        `type ${type}`,
      );
    }
  });

  it("reads every metadata type", () => {
    const cases: [string, EncodedValue, unknown][] = [
      ["u8", [0, Buffer.from([200])], 200],
      ["i8", [1, Buffer.from([200])], -56],
      ["u16", [2, Buffer.from([0, 200])], 51_200],
      ["i16", [3, Buffer.from([0, 200])], -14_336],
      ["u32", [4, u32(4_000_000_000)], 4_000_000_000],
      ["i32", [5, u32(0xffff_ffff)], -1],
      ["f32", [6, u32(0x3fc0_0000)], 1.5],
      ["true", [7, Buffer.from([1])], true],
      ["false", [7, Buffer.from([0])], false],
      ["text", [8, ggufString("naïve ▁😀")], "naïve ▁😀"],
      ["replacement", [8, ggufString("\ufffd")], "\ufffd"],
      ["u64 that fits", [10, u64(2 ** 53 - 1)], 2 ** 53 - 1],
      ["u64 that does not", [10, u64(2n ** 64n - 1n)], 2n ** 64n - 1n],
      ["i64 that fits", [11, u64(2n ** 64n - 5n)], -5],
      ["i64 that does not", [11, u64(2n ** 63n)], -(2n ** 63n)],
      ["f64", [12, u64(0x3ff8_0000_0000_0000n)], 1.5],
      ["u8s", ggufArray(0, 2, Buffer.from([1, 255])), Uint8Array.of(1, 255)],
      ["i8s", ggufArray(1, 2, Buffer.from([1, 255])), Int8Array.of(1, -1)],
      ["u16s", ggufArray(2, 1, Buffer.from([1, 255])), Uint16Array.of(65_281)],
      ["i16s", ggufArray(3, 1, Buffer.from([1, 255])), Int16Array.of(-255)],
      ["u32s", ggufArray(4, 1, u32(0xffff_ffff)), Uint32Array.of(0xffff_ffff)],
      ["i32s", ggufArray(5, 1, u32(0xffff_ffff)), Int32Array.of(-1)],
      ["f32s", ggufArray(6, 1, u32(0x3fc0_0000)), Float32Array.of(1.5)],
      ["bools", ggufArray(7, 2, Buffer.from([1, 0])), [true, false]],
      ["strings", ggufArray(8, 2, Buffer.concat([ggufString(""), ggufString("é")])), ["", "é"]],
      ["u64s", ggufArray(10, 1, u64(2n ** 64n - 1n)), [2n ** 64n - 1n]],
      ["i64s", ggufArray(11, 1, u64(2n ** 64n - 1n)), [-1n]],
      ["f64s", ggufArray(12, 1, u64(0x3ff8_0000_0000_0000n)), Float64Array.of(1.5)],
      ["empty", ggufArray(8, 0, Buffer.alloc(0)), []],
    ];

    const { metadata } = readGguf(
      sourceOf(aGguf({ metadata: cases.map(([key, value]) => [key, value]) })),
    );

    for (const [key, , expected] of cases) assert.deepEqual(metadata.get(key), expected, key);
  });

  it("reads version 2, a file without tensors, and another alignment", () => {
    assert.equal(readGguf(sourceOf(aGguf({ version: 2 }))).tensors.length, 1);
    assert.equal(readGguf(sourceOf(aGguf({ tensors: [] }))).tensors.length, 0);

    const alignment = 4096;
    const metadata = [["general.alignment", [4, u32(alignment)]]] as const;
    const { tensors } = readGguf(sourceOf(aGguf({ metadata, alignment })));
    assert.equal(tensors[0]?.offset, alignment);
  });

  it("reads 262,144 strings that span the window's pieces", () => {
    const strings = Array.from({ length: 262_144 }, (_, i) => `token number ${i} ${"▁".repeat(9)}`);
    const items = Buffer.concat(strings.map((text) => ggufString(text)));
    const bytes = aGguf({ metadata: [["tokens", ggufArray(8, strings.length, items)]] });

    const { metadata, tensors } = readGguf(sourceOf(bytes));

    assert.deepEqual(metadata.get("tokens"), strings);
    assert.equal(tensors[0]?.offset, bytes.length - 256);
  });

  const two64 = 2n ** 64n - 1n;
  const hostile: [string, GgufParts | Buffer, RegExp][] = [
    ["an empty file", Buffer.alloc(0), /the file ends at 0/],
    ["another format", { magic: "GGML" }, /not a GGUF file \(at byte 0\)/],
    ["version 1", { version: 1 }, /GGUF version 1 \(at byte 4\)/],
    ["version 4", { version: 4 }, /GGUF version 4/],
    ["a big-endian file", { version: 0x0300_0000 }, /big-endian/],
    [
      "more tensors than bytes",
      { tensorCount: 200_000 },
      /the number of tensors takes 6400000 bytes/,
    ],
    ["2^64 tensors", { tensorCount: two64 }, /is more than any file holds/],
    ["a million tensors", { tensorCount: 1_000_000 }, /exceed the limit of 262144/],
    ["more keys than bytes", { metadataCount: 60_000 }, /the number of metadata keys takes/],
    ["2^64 keys", { metadataCount: two64 }, /is more than any file holds/],
    [
      "a string longer than the file",
      { metadata: [["k", [8, u64(2 ** 40)]]] },
      /key "k" takes 1099511627776 bytes, but the file ends/,
    ],
    ["a string of 2^64 bytes", { metadata: [["k", [8, u64(two64)]]] }, /more than any file holds/],
    [
      "a string that is not UTF-8",
      { metadata: [["k", [8, ggufString(Buffer.from([0xff, 0xfe]))]]] },
      /key "k": a string is not valid UTF-8/,
    ],
    [
      "a key that is not UTF-8",
      { metadata: [[Buffer.from([0xc0, 0x80]), [0, Buffer.from([1])]]] },
      /a metadata key: a string is not valid UTF-8/,
    ],
    [
      "an array of 2^60 strings",
      { metadata: [["k", ggufArray(8, 2n ** 60n, Buffer.alloc(0))]] },
      /key "k": 1152921504606846976 is more than any file holds/,
    ],
    [
      "an array longer than the file",
      { metadata: [["k", ggufArray(12, 2 ** 30, Buffer.alloc(0))]] },
      /key "k" takes 8589934592 bytes/,
    ],
    [
      "an array of arrays",
      { metadata: [["k", ggufArray(9, 1, Buffer.alloc(64))]] },
      /key "k": an array of arrays/,
    ],
    [
      "an unknown value type",
      { metadata: [["k", [13, u64(0)]]] },
      /key "k": unknown value type 13/,
    ],
    ["an unknown item type", { metadata: [["k", ggufArray(99, 1, u64(0))]] }, /value type 99/],
    [
      "a boolean of 2",
      { metadata: [["k", [7, Buffer.from([2])]]] },
      /key "k": a boolean is neither 0 nor 1/,
    ],
    [
      "booleans with a 3",
      { metadata: [["k", ggufArray(7, 2, Buffer.from([1, 3]))]] },
      /neither 0 nor 1/,
    ],
    [
      "a repeated key",
      {
        metadata: [
          ["k", [0, Buffer.from([1])]],
          ["k", [0, Buffer.from([2])]],
        ],
      },
      /key "k" is repeated/,
    ],
    ["a tensor without dimensions", { tensors: [{ ne: [] }] }, /0 dimensions are not 1 to 4/],
    ["a tensor of five", { tensors: [{ ne: [1, 1, 1, 1, 1] }] }, /5 dimensions are not 1 to 4/],
    ["an empty dimension", { tensors: [{ ne: [32, 0] }] }, /shape \[0,32\] has an empty dimension/],
    [
      "a size that overflows 64 bits",
      { tensors: [{ ne: [2 ** 32, 2 ** 32, 2 ** 32] }] },
      /is larger than any file/,
    ],
    ["a dimension of 2^64", { tensors: [{ ne: [two64] }] }, /is more than any file holds/],
    [
      "rows that are not whole blocks",
      { tensors: [{ ne: [48, 2], type: 2 }] },
      /rows of 48 elements are not whole Q4_0 blocks of 32/,
    ],
    ["an unsupported type", { tensors: [{ type: 10 }] }, /type Q2_K is not supported/],
    ["an unknown type", { tensors: [{ type: 77 }] }, /type 77 is not supported/],
    [
      "an offset that is not aligned",
      { tensors: [{ offset: 16 }] },
      /offset 16 into the data is not a multiple of 32/,
    ],
    ["an offset of 2^53", { tensors: [{ offset: 2 ** 53 }] }, /9007199254740992 is more than any/],
    ["an offset of 2^64", { tensors: [{ offset: two64 }] }, /is more than any file holds/],
    [
      "an offset behind the file",
      { tensors: [{ offset: 2 ** 52 }] },
      /tensor "token_embd.weight": its 256 bytes end at byte 4503599627370\d+ of a file of/,
    ],
    ["data that is cut", { dataBytes: 255 }, /its 256 bytes end at byte \d+ of a file of \d+/],
    [
      "tensors that overlap",
      {
        tensors: [
          { name: "a", ne: [32], offset: 0 },
          { name: "b", ne: [32], offset: 96 },
        ],
      },
      /tensor "b": overlaps tensor "a"/,
    ],
    [
      "two tensors of one name",
      {
        tensors: [
          { name: "a", ne: [8], offset: 0 },
          { name: "a", ne: [8], offset: 32 },
        ],
      },
      /tensor "a": its name is repeated/,
    ],
    [
      "an alignment that is no power of two",
      { metadata: [["general.alignment", [4, u32(48)]]] },
      /general.alignment 48 is not a power of two/,
    ],
    ["an alignment of 0", { metadata: [["general.alignment", [4, u32(0)]]] }, /alignment 0 is not/],
    [
      "a huge alignment",
      { metadata: [["general.alignment", [4, u32(2 ** 31)]]] },
      /alignment 2147483648 is not a power of two up to 65536/,
    ],
    [
      "a fraction as alignment",
      { metadata: [["general.alignment", [6, u32(0x3f00_0000)]]] },
      /alignment 0.5 is not/,
    ],
    [
      "text as alignment",
      { metadata: [["general.alignment", [8, ggufString("32")]]] },
      /general.alignment is not a number/,
    ],
    [
      "one part of several",
      { metadata: [["split.count", [2, Buffer.from([3, 0])]]] },
      /one of 3 parts of a model/,
    ],
  ];
  for (const [name, parts, message] of hostile) {
    it(`refuses ${name}`, () => {
      const bytes = Buffer.isBuffer(parts) ? parts : aGguf(parts);

      assert.throws(() => readGguf(sourceOf(bytes, "/models/m.gguf")), isInvalid(message));
    });
  }

  it("refuses a file cut at any byte of its header", () => {
    const whole = aGguf({
      metadata: [
        ["a", [8, ggufString("text")]],
        ["b", ggufArray(8, 2, Buffer.concat([ggufString("x"), ggufString("yz")]))],
        ["c", ggufArray(5, 3, Buffer.alloc(12))],
      ],
      dataBytes: 256,
    });
    for (let length = 0; length < whole.length; length++) {
      const cut = sourceOf(whole.subarray(0, length));
      assert.throws(() => readGguf(cut), isInvalid(/./), `cut at ${length}`);
    }
  });

  it("takes no memory for what a header only claims", () => {
    const claims = aGguf({ metadata: [["k", [8, u64(2 ** 33)]]] });
    let largest = 0;
    const source = sourceOf(claims);

    assert.throws(
      () =>
        readGguf({
          // As large as it pretends to be, so that only the header's own limit is left.
          ...source,
          size: 2 ** 40,
          read(target, position) {
            largest = Math.max(largest, target.length);
            claims.copy(target, 0, position);
          },
        }),
      isInvalid(/exceeds the limit of 67108864 for a header/),
    );
    assert.ok(largest <= 4 * 2 ** 20, `${largest} bytes were taken`);
  });

  it("escapes and shortens names of its files in messages", () => {
    const name = `line\nbreak${"x".repeat(5000)}`;
    assert.throws(
      () => readGguf(sourceOf(aGguf({ tensors: [{ name, type: 77 }] }))),
      (error: unknown) =>
        error instanceof EngineError && !error.message.includes("\n") && error.message.length < 300,
    );
  });
});

function isInvalid(message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof EngineError, String(error));
    assert.equal(error.code, "CHECKPOINT_INVALID");
    assert.match(error.message, message);
    assert.ok(error.message.startsWith("/model"), error.message);
    assert.ok(error.remedy.length > 0);
    return true;
  };
}
