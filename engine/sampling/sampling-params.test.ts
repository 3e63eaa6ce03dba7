import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { EngineError } from "../errors.ts";
import type { SamplingFields } from "./request-fields.ts";
import { type SamplingLimits, samplingParams } from "./sampling-params.ts";
import { refuseUnsupportedFields, unsupportedFields } from "./unsupported-fields.ts";

describe("samplingParams", () => {
  it("turns everything off by default and draws with a random seed", () => {
    const params = samplingParams({}, -1, limits());
    const { seed, stopTokenIds, biasTokenIds, biasValues, ...rest } = params.samplingOf(0);

    assert.deepEqual(rest, {
      temperature: 1,
      topK: 0,
      topP: 1,
      minP: 0,
      presencePenalty: 0,
      frequencyPenalty: 0,
      repetitionPenalty: 1,
      topLogprobs: -1,
      minTokens: 0,
    });
    assert.deepEqual([...stopTokenIds], [2]);
    assert.deepEqual([biasTokenIds.length, biasValues.length], [0, 0]);
    assert.equal(params.maxTokens, undefined);
    assert.equal(params.choiceCount, 1);
    assert.notEqual(seed, samplingParams({}, -1, limits()).samplingOf(0).seed);
  });

  it("takes the model's advice for what the request leaves open, and for nothing else", () => {
    const defaults = { temperature: 0.6, topP: 0.9, topK: 20, minP: 0.1, repetitionPenalty: 1.2 };

    const advised = samplingParams({}, -1, limits({ defaults })).samplingOf(0);
    const asked = samplingParams(
      { temperature: 0, top_p: 1, top_k: 0, min_p: 0, repetition_penalty: 1 },
      -1,
      limits({ defaults }),
    ).samplingOf(0);

    assert.deepEqual(
      [advised.temperature, advised.topP, advised.topK, advised.minP, advised.repetitionPenalty],
      [0.6, 0.9, 20, 0.1, 1.2],
    );
    assert.deepEqual(
      [asked.temperature, asked.topP, asked.topK, asked.minP, asked.repetitionPenalty],
      [0, 1, 0, 0, 1],
    );
  });

  it("treats null as left out", () => {
    const names = ["temperature", "top_p", "seed", "stop", "logit_bias", "max_tokens", "n"];
    const nulls = Object.fromEntries(names.map((name) => [name, null])) as SamplingFields;

    const params = samplingParams(nulls, -1, limits({ defaultMaxTokens: 16 }));

    assert.equal(params.maxTokens, 16);
    assert.equal(params.samplingOf(0).temperature, 1);
    assert.deepEqual(params.stops, []);
  });

  it("is greedy at temperatures that would overflow", () => {
    assert.equal(samplingParams({ temperature: 1e-6 }, -1, limits()).samplingOf(0).temperature, 0);
    assert.equal(samplingParams({ temperature: 0.1 }, -1, limits()).samplingOf(0).temperature, 0.1);
  });

  it("reads -1, 0 and the whole vocabulary as no top_k", () => {
    for (const [given, expected] of [
      [-1, 0],
      [0, 0],
      [40, 40],
      [99, 99],
      [100, 0],
    ] as const) {
      assert.equal(samplingParams({ top_k: given }, -1, limits()).samplingOf(0).topK, expected);
    }
  });

  it("gives each choice its own seed, and the first the request's", () => {
    const params = samplingParams({ seed: 7, n: 3 }, -1, limits());
    const again = samplingParams({ seed: 7, n: 3 }, -1, limits());
    const seeds = [0, 1, 2].map((index) => params.samplingOf(index).seed);

    assert.equal(seeds[0], 7n);
    assert.equal(new Set(seeds).size, 3);
    assert.deepEqual(
      seeds,
      [0, 1, 2].map((index) => again.samplingOf(index).seed),
    );
    // First output of SplitMix64 seeded with 0, as published with the reference implementation.
    assert.equal(samplingParams({ seed: 0 }, -1, limits()).samplingOf(1).seed, 0xe220a8397b1dcdafn);
  });

  it("wraps a negative seed into 64 bits", () => {
    assert.equal(samplingParams({ seed: -1 }, -1, limits()).samplingOf(0).seed, 2n ** 64n - 1n);
  });

  it("ends at named tokens and end tokens, and only at named ones with ignore_eos", () => {
    const both = samplingParams({ stop_token_ids: [5, 2] }, -1, limits());
    const named = samplingParams({ stop_token_ids: [5], ignore_eos: true }, -1, limits());

    assert.deepEqual([...both.stopTokenIds], [5, 2]);
    assert.deepEqual([...named.stopTokenIds], [5]);
    assert.deepEqual([...named.samplingOf(0).stopTokenIds], [5]);
    assert.ok(both.namedStopTokenIds.has(5));
    assert.ok(!samplingParams({}, -1, limits()).namedStopTokenIds.has(2));
  });

  it("takes one stop text or several", () => {
    assert.deepEqual(samplingParams({ stop: "a" }, -1, limits()).stops, ["a"]);
    assert.deepEqual(samplingParams({ stop: ["a", "b", "a"] }, -1, limits()).stops, ["a", "b"]);
  });

  it("reads logit_bias as parallel arrays", () => {
    const sampling = samplingParams({ logit_bias: { 3: -100, 7: 1.5 } }, -1, limits()).samplingOf(
      0,
    );

    assert.deepEqual([...sampling.biasTokenIds], [3, 7]);
    assert.deepEqual([...sampling.biasValues], [-100, 1.5]);
  });

  const refused: readonly [SamplingFields, string, RegExp][] = [
    [{ max_tokens: 3, max_completion_tokens: 4 }, "max_tokens", /is 3 and .* is 4/],
    [{ max_tokens: 3, min_tokens: 4 }, "min_tokens", /is 4, more than max_tokens 3/],
    [{ stop_token_ids: [100] }, "stop_token_ids", /token 100, the vocabulary has 100/],
    [{ logit_bias: { 100: 1 } }, "logit_bias", /token 100, the vocabulary has 100/],
    [{ logit_bias: { "-1": 1 } }, "logit_bias", /the key "-1"/],
    [{ logit_bias: { dog: 1 } }, "logit_bias", /the key "dog"/],
  ];
  for (const [fields, param, message] of refused) {
    it(`refuses ${JSON.stringify(fields)}`, () => {
      assert.throws(
        () => samplingParams(fields, -1, limits()),
        isError("REQUEST_INVALID", param, message),
      );
    });
  }

  it("takes max_completion_tokens for max_tokens", () => {
    assert.equal(samplingParams({ max_completion_tokens: 4 }, -1, limits()).maxTokens, 4);
    const both = { max_completion_tokens: 4, max_tokens: 4 };
    assert.equal(samplingParams(both, -1, limits()).maxTokens, 4);
  });
});

describe("refuseUnsupportedFields", () => {
  for (const field of unsupportedFields) {
    it(`refuses ${field} by name and takes it as null`, () => {
      assert.throws(
        () => refuseUnsupportedFields({ [field]: { some: "thing" } }),
        isError("UNSUPPORTED_FIELD", field, new RegExp(`^${field} is not supported`)),
      );
      refuseUnsupportedFields({ [field]: null });
    });
  }

  it("takes values that ask for nothing", () => {
    refuseUnsupportedFields({
      tools: [],
      tool_choice: "none",
      response_format: { type: "text" },
      modalities: ["text"],
      best_of: 1,
      suffix: "",
      use_beam_search: false,
    });
    assert.throws(() => refuseUnsupportedFields({ response_format: { type: "json_object" } }));
    assert.throws(() => refuseUnsupportedFields({ modalities: ["text", "audio"] }));
    assert.throws(() => refuseUnsupportedFields({ best_of: 2 }));
  });
});

function limits(overrides: Partial<SamplingLimits> = {}): SamplingLimits {
  return {
    vocabularySize: 100,
    endTokenIds: [2],
    defaultMaxTokens: undefined,
    defaults: {},
    ...overrides,
  };
}

function isError(code: string, param: string, message: RegExp) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof EngineError);
    assert.equal(error.code, code);
    assert.equal(error.param, param);
    assert.match(error.message, message);
    return true;
  };
}
