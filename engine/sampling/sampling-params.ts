import type { RowSampling } from "../device.ts";
import { EngineError } from "../errors.ts";
import type { SamplingFields } from "./request-fields.ts";

/** What a request that does not say samples with; absent is off. */
export interface SamplingDefaults {
  readonly temperature?: number;
  readonly topP?: number;
  /** 0 is off. */
  readonly topK?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
}

/** What the model and the endpoint fix for every request. */
export interface SamplingLimits {
  readonly vocabularySize: number;
  /** Tokens that end a generation unless `ignore_eos`. */
  readonly endTokenIds: readonly number[];
  /** `max_tokens` of a request that names none; undefined fills the context. */
  readonly defaultMaxTokens: number | undefined;
  readonly defaults: SamplingDefaults;
}

export interface SamplingParams {
  readonly choiceCount: number;
  /** undefined fills the context. */
  readonly maxTokens: number | undefined;
  readonly minTokens: number;
  readonly stops: readonly string[];
  readonly includeStop: boolean;
  /** `stop_token_ids`, and the end tokens unless ignored. */
  readonly stopTokenIds: Int32Array;
  /** Of these, the ones that the request named. */
  readonly namedStopTokenIds: ReadonlySet<number>;
  /** Sampling of the choice with this index among its prompt's; they differ in their seed. */
  samplingOf(choiceIndex: number): RowSampling;
}

/** Below this, dividing logits by the temperature overflows; vLLM draws greedily there too. */
const greedyTemperature = 1e-5;

/**
 * Request fields, already checked by the route's schema, as what a row samples with.
 *
 * @param topLogprobs alternatives to report with each token, -1 for no logprobs at all
 * @throws EngineError REQUEST_INVALID where fields contradict each other or the vocabulary
 */
export function samplingParams(
  fields: SamplingFields,
  topLogprobs: number,
  limits: SamplingLimits,
): SamplingParams {
  const { vocabularySize } = limits;
  const maxTokens = maxTokensOf(fields) ?? limits.defaultMaxTokens;
  const minTokens = fields.min_tokens ?? 0;
  if (maxTokens !== undefined && minTokens > maxTokens) {
    throw invalid("min_tokens", `min_tokens is ${minTokens}, more than max_tokens ${maxTokens}`);
  }
  const named = fields.stop_token_ids ?? [];
  for (const id of named) requireKnownToken("stop_token_ids", id, vocabularySize);
  const ends = fields.ignore_eos === true ? [] : limits.endTokenIds;
  const stopTokenIds = Int32Array.from(new Set([...named, ...ends]));
  const shared = {
    ...distributionOf(fields, limits),
    ...biasOf(fields, vocabularySize),
    topLogprobs,
    minTokens,
    stopTokenIds,
  };
  const seed = seedOf(fields);
  return {
    choiceCount: fields.n ?? 1,
    maxTokens,
    minTokens,
    stops: stopsOf(fields),
    includeStop: fields.include_stop_str_in_output === true,
    stopTokenIds,
    namedStopTokenIds: new Set(named),
    samplingOf: (index) => ({ ...shared, seed: seedOfChoice(seed, index) }),
  };
}

function distributionOf(
  fields: SamplingFields,
  { vocabularySize, defaults }: Pick<SamplingLimits, "vocabularySize" | "defaults">,
) {
  const temperature = fields.temperature ?? defaults.temperature ?? 1;
  const topK = fields.top_k ?? defaults.topK ?? 0;
  return {
    temperature: temperature < greedyTemperature ? 0 : temperature,
    topK: topK <= 0 || topK >= vocabularySize ? 0 : topK,
    topP: fields.top_p ?? defaults.topP ?? 1,
    minP: fields.min_p ?? defaults.minP ?? 0,
    presencePenalty: fields.presence_penalty ?? 0,
    frequencyPenalty: fields.frequency_penalty ?? 0,
    repetitionPenalty: fields.repetition_penalty ?? defaults.repetitionPenalty ?? 1,
  };
}

function maxTokensOf(fields: SamplingFields): number | undefined {
  const { max_tokens: older, max_completion_tokens: newer } = fields;
  if (typeof older === "number" && typeof newer === "number" && older !== newer) {
    throw invalid(
      "max_tokens",
      `max_tokens is ${older} and max_completion_tokens is ${newer}; they mean the same`,
    );
  }
  return newer ?? older ?? undefined;
}

function stopsOf(fields: SamplingFields): readonly string[] {
  const { stop } = fields;
  if (stop === undefined || stop === null) return [];
  return typeof stop === "string" ? [stop] : [...new Set(stop)];
}

function biasOf(fields: SamplingFields, vocabularySize: number) {
  const entries = Object.entries(fields.logit_bias ?? {});
  const ids = entries.map(([key]) => {
    if (!/^(0|[1-9]\d*)$/.test(key)) {
      throw invalid("logit_bias", `logit_bias has the key ${JSON.stringify(key.slice(0, 40))}`, {
        remedy: "Use token ids as keys; /tokenize answers them.",
      });
    }
    return Number(key);
  });
  for (const id of ids) requireKnownToken("logit_bias", id, vocabularySize);
  return {
    biasTokenIds: Int32Array.from(ids),
    biasValues: Float32Array.from(entries.map(([, value]) => value)),
  };
}

/**
 * @throws EngineError REQUEST_INVALID naming the token and the vocabulary's size
 */
export function requireKnownToken(param: string, id: number, vocabularySize: number): void {
  if (Number.isInteger(id) && id >= 0 && id < vocabularySize) return;
  throw invalid(param, `${param} names token ${id}, the vocabulary has ${vocabularySize} tokens`, {
    remedy: `Use ids from 0 to ${vocabularySize - 1}.`,
  });
}

function seedOf(fields: SamplingFields): bigint {
  if (typeof fields.seed === "number") return BigInt.asUintN(64, BigInt(fields.seed));
  return crypto.getRandomValues(new BigUint64Array(1))[0] ?? 0n;
}

/**
 * Choice 0 draws with the request's own seed, so that it repeats the same request with `n` 1; the
 * others with SplitMix64 of it (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
 * 2014, figure 17).
 */
function seedOfChoice(seed: bigint, index: number): bigint {
  if (index === 0) return seed;
  const wrap = (value: bigint) => BigInt.asUintN(64, value);
  let mixed = wrap(seed + BigInt(index) * 0x9e3779b97f4a7c15n);
  mixed = wrap((mixed ^ (mixed >> 30n)) * 0xbf58476d1ce4e5b9n);
  mixed = wrap((mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn);
  return mixed ^ (mixed >> 31n);
}

function invalid(param: string, message: string, options?: { remedy: string }): EngineError {
  return new EngineError("REQUEST_INVALID", message, {
    remedy: options?.remedy ?? `Correct ${param}.`,
    param,
  });
}
