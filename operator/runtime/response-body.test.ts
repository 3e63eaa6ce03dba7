import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { readLines } from "./response-body.ts";

const text = '{"a":1}\n\n{"b":"ü€"}\n{"c":3}\n{"cut":';

describe("readLines", () => {
  it("finds the same lines wherever the stream is cut, also inside a character", async () => {
    const bytes = Buffer.from(text);
    for (let first = 0; first <= bytes.length; first++) {
      for (let second = first; second <= bytes.length; second++) {
        const chunks = [
          bytes.subarray(0, first),
          bytes.subarray(first, second),
          bytes.subarray(second),
        ];
        assert.deepEqual(await linesOf(chunks), ['{"a":1}', '{"b":"ü€"}', '{"c":3}']);
      }
    }
  });

  it("refuses a line without end", async () => {
    const chunks = Array.from({ length: 17 }, () => Buffer.alloc(1024 * 1024, "x"));
    await assert.rejects(linesOf(chunks), /longer than 16777216 bytes/);
  });
});

async function linesOf(chunks: readonly Buffer[]): Promise<string[]> {
  async function* stream() {
    yield* chunks;
  }
  const lines: string[] = [];
  for await (const line of readLines(stream())) lines.push(line);
  return lines;
}
