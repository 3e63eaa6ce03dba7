import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { greedySampling, maxTopLogprobs, type RowSampling, type StepResult } from "../device.ts";
import {
  CommandEncoder,
  decodeEvent,
  decodeGenerate,
  EventEncoder,
  type EventSink,
  generateWords,
  maxEventWords,
} from "./ring-messages.ts";

describe("a generate command", () => {
  const sampling: RowSampling = {
    temperature: 0.7,
    topK: 40,
    topP: 0.95,
    minP: 0.05,
    presencePenalty: -1.5,
    frequencyPenalty: 0.25,
    repetitionPenalty: 1.1,
    seed: 0xfedcba98_76543210n,
    topLogprobs: 5,
    minTokens: 3,
    stopTokenIds: Int32Array.of(2, 7),
    biasTokenIds: Int32Array.of(11, 12, 13),
    biasValues: Float32Array.of(-100, 0.5, 1),
  };
  const request = {
    promptTokenIds: Int32Array.of(1, 2, 3, 4),
    sampling,
    maxTokens: 77,
    stopTokenIds: Int32Array.of(2),
    priority: -3,
    cacheSalt: "tenant",
  };

  it("arrives as it was sent", () => {
    const encoder = new CommandEncoder();
    const length = encoder.generate(9, request, Int32Array.of(-5, 6));

    const { cacheSalt: _, ...sent } = request;
    assert.equal(length, generateWords(request));
    assert.deepEqual(decodeGenerate(encoder.words), {
      ...sent,
      index: 9,
      saltLink: Int32Array.of(-5, 6),
    });
  });

  it("keeps every seed", () => {
    const encoder = new CommandEncoder();
    for (const seed of [0n, 1n, 0x80000000n, 0xffffffffn, 1n << 32n, (1n << 64n) - 1n]) {
      encoder.generate(0, { ...request, sampling: { ...greedySampling, seed } }, new Int32Array(2));

      assert.equal(decodeGenerate(encoder.words).sampling.seed, seed);
    }
  });

  it("carries prompts of any length, one after the other", () => {
    const encoder = new CommandEncoder();
    for (const length of [1, 5000, 3]) {
      const promptTokenIds = Int32Array.from({ length }, (_, i) => i);
      encoder.generate(0, { ...request, promptTokenIds }, new Int32Array(2));

      const decoded = decodeGenerate(encoder.words);
      assert.deepEqual(decoded.promptTokenIds, promptTokenIds);
      assert.equal(decoded.sampling.temperature, 0.7);
      assert.deepEqual(decoded.sampling.biasValues, sampling.biasValues);
    }
  });
});

describe("an event", () => {
  it("says that a request runs, and how much of its prompt was cached", () => {
    const encoder = new EventEncoder();

    assert.deepEqual(heard(encoder, encoder.admitted(3, 128)), ["admitted", 3, 128]);
  });

  it("carries a token alone where no logprob was asked for", () => {
    const encoder = new EventEncoder();
    const length = encoder.token(3, aResult(), 1, -1, undefined);

    assert.deepEqual(heard(encoder, length), ["token", 3, 21, undefined, [], undefined]);
  });

  it("carries the logprob and as many alternatives as were asked for", () => {
    const encoder = new EventEncoder();

    assert.deepEqual(heard(encoder, encoder.token(3, aResult(), 1, 0, "stop")), [
      ...["token", 3, 21, -0.5, [], "stop"],
    ]);
    assert.deepEqual(heard(encoder, encoder.token(3, aResult(), 1, 2, "length")), [
      ...["token", 3, 21, -0.5],
      [
        [120, -20],
        [121, -21],
      ],
      "length",
    ]);
    assert.equal(encoder.token(3, aResult(), 1, maxTopLogprobs, undefined), maxEventWords);
  });

  it("says how a request ended", () => {
    const encoder = new EventEncoder();
    for (const reason of ["stop", "length", "abort", "error"] as const) {
      assert.deepEqual(heard(encoder, encoder.ended(3, reason)), ["ended", 3, reason]);
    }
  });

  it("is refused when it makes no sense", () => {
    const encoder = new EventEncoder();
    assert.throws(() => decodeEvent(Int32Array.of(9, 0, 0), 3, sink([])), /unknown kind 9/);
    encoder.ended(4, "stop");
    encoder.words[2] = 0;
    assert.throws(() => decodeEvent(encoder.words, 3, sink([])), /request 4 ends without a reason/);
  });
});

function heard(encoder: EventEncoder, length: number): unknown[] {
  const calls: unknown[][] = [];
  decodeEvent(encoder.words.slice(), length, sink(calls));
  assert.equal(calls.length, 1);
  return calls[0] ?? [];
}

function sink(calls: unknown[][]): EventSink {
  return {
    onAdmitted: (...args) => calls.push(["admitted", ...args]),
    onToken: (...args) => calls.push(["token", ...args]),
    onEnded: (...args) => calls.push(["ended", ...args]),
  };
}

function aResult(): StepResult {
  return {
    sampledCount: 2,
    tokenIds: Int32Array.of(20, 21),
    logprobs: Float32Array.of(-0.25, -0.5),
    topTokenIds: Int32Array.from({ length: 2 * maxTopLogprobs }, (_, i) => 100 + i),
    topLogprobs: Float32Array.from({ length: 2 * maxTopLogprobs }, (_, i) => -i),
    stepMs: 1,
  };
}
