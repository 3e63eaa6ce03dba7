import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { GenerationStream } from "./generation-stream.ts";

describe("GenerationStream", () => {
  it("hands over together what came while nobody read", async () => {
    const { stream } = aStream();
    stream.admit(64);
    stream.add(1, undefined, []);
    stream.add(2, undefined, []);
    const reader = stream[Symbol.asyncIterator]();

    assert.deepEqual((await reader.next()).value, {
      tokenIds: [1, 2],
      logprobs: [],
      topLogprobs: [],
      cachedTokenCount: 64,
      finishReason: undefined,
    });
  });

  it("waits for a token, and does not hand one over twice", async () => {
    const { stream } = aStream();
    const reader = stream[Symbol.asyncIterator]();
    const first = reader.next();
    stream.add(1, -0.5, [[1, -0.5]]);
    assert.deepEqual((await first).value.logprobs, [-0.5]);
    const second = reader.next();
    stream.add(2, -0.25, [[3, -0.125]]);
    stream.end("stop");

    const { value } = await second;

    assert.deepEqual(value.tokenIds, [2]);
    assert.deepEqual(value.topLogprobs, [[[3, -0.125]]]);
    assert.equal(value.finishReason, "stop");
    assert.equal((await reader.next()).done, true);
  });

  it("ends with an update of its own when no token comes with the end", async () => {
    const { stream } = aStream();
    const reader = stream[Symbol.asyncIterator]();
    const waiting = reader.next();
    stream.end("abort");

    assert.deepEqual((await waiting).value.tokenIds, []);
    assert.equal((await reader.next()).done, true);
  });

  it("aborts once, and not after the end", () => {
    const { stream, aborts } = aStream();
    stream.abort();
    stream.abort();
    assert.equal(aborts.length, 1);

    const ended = aStream();
    ended.stream.end("stop");
    ended.stream.abort();
    assert.equal(ended.aborts.length, 0);
  });

  it("aborts when its reader leaves early", async () => {
    const { stream, aborts } = aStream();
    stream.add(1, undefined, []);

    for await (const _ of stream) break;

    assert.equal(aborts.length, 1);
  });
});

function aStream(): { stream: GenerationStream; aborts: number[] } {
  const aborts: number[] = [];
  return { stream: new GenerationStream(() => aborts.push(1)), aborts };
}
