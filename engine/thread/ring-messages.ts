/**
 * What the main thread and the engine thread tell each other, as words of a ring. Both directions
 * are read and written here alone.
 */
import type { RowSampling, StepResult } from "../device.ts";
import { maxTopLogprobs } from "../device.ts";
import type { FinishReason, GenerationRequest } from "../generation.ts";
import type { RequestInit } from "../scheduler/request.ts";

export const commandKinds = { generate: 1, abort: 2, shutdown: 3 } as const;

/** Words of an abort or a shutdown with its length: what `generate` must leave free for them. */
export const shortCommandWords = 3;

const headerWords = 16;
/** Doubles of the sampling: temperature, top p, min p and the three penalties. */
const doubleCount = 6;
const fixedWords = headerWords + 2 * doubleCount;

/** Words of a generate command. */
export function generateWords(request: GenerationRequest): number {
  const { sampling } = request;
  return (
    fixedWords +
    request.promptTokenIds.length +
    request.stopTokenIds.length +
    sampling.stopTokenIds.length +
    2 * sampling.biasTokenIds.length
  );
}

/** Writes commands into one buffer that grows to the largest. */
export class CommandEncoder {
  /** Words of the command encoded last. */
  words = new Int32Array(1024);
  #doubles = new Float64Array(this.words.buffer, 0, Math.floor(fixedWords / 2));

  /** @returns the command's length in words */
  generate(index: number, request: GenerationRequest, saltLink: Int32Array): number {
    const { sampling } = request;
    const length = generateWords(request);
    if (length > this.words.length) {
      this.words = new Int32Array(length * 2);
      this.#doubles = new Float64Array(this.words.buffer, 0, Math.floor(fixedWords / 2));
    }
    this.words.set([
      commandKinds.generate,
      index,
      request.priority,
      request.maxTokens,
      request.promptTokenIds.length,
      request.stopTokenIds.length,
      sampling.stopTokenIds.length,
      sampling.biasTokenIds.length,
      sampling.topK,
      sampling.topLogprobs,
      sampling.minTokens,
      Number(BigInt.asIntN(32, sampling.seed)),
      Number(BigInt.asIntN(32, sampling.seed >> 32n)),
      saltLink[0] as number,
      saltLink[1] as number,
    ]);
    this.#doubles.set(
      [
        sampling.temperature,
        sampling.topP,
        sampling.minP,
        sampling.presencePenalty,
        sampling.frequencyPenalty,
        sampling.repetitionPenalty,
      ],
      headerWords / 2,
    );
    let at = fixedWords;
    const { biasValues } = sampling;
    const biasBits = new Int32Array(Float32Array.from(biasValues).buffer);
    for (const part of [
      request.promptTokenIds,
      request.stopTokenIds,
      sampling.stopTokenIds,
      sampling.biasTokenIds,
      biasBits,
    ]) {
      this.words.set(part, at);
      at += part.length;
    }
    return length;
  }

  /** @returns the command's length in words */
  short(kind: number, index: number): number {
    this.words[0] = kind;
    this.words[1] = index;
    return 2;
  }
}

/** Reads a generate command. The arrays are the request's own. */
export function decodeGenerate(words: Int32Array): RequestInit {
  let at = fixedWords;
  const take = (length: number): Int32Array => {
    at += length;
    return words.slice(at - length, at);
  };
  const word = (place: number): number => words[place] as number;
  const doubles = new Float64Array(words.slice(headerWords, fixedWords).buffer);
  const promptTokenIds = take(word(4));
  const stopTokenIds = take(word(5));
  const sampling: RowSampling = {
    temperature: doubles[0] as number,
    topP: doubles[1] as number,
    minP: doubles[2] as number,
    presencePenalty: doubles[3] as number,
    frequencyPenalty: doubles[4] as number,
    repetitionPenalty: doubles[5] as number,
    topK: word(8),
    topLogprobs: word(9),
    minTokens: word(10),
    seed: (BigInt.asUintN(32, BigInt(word(12))) << 32n) | BigInt.asUintN(32, BigInt(word(11))),
    stopTokenIds: take(word(6)),
    biasTokenIds: take(word(7)),
    biasValues: new Float32Array(take(word(7)).buffer),
  };
  return {
    index: word(1),
    priority: word(2),
    maxTokens: word(3),
    promptTokenIds,
    stopTokenIds,
    sampling,
    saltLink: words.slice(13, 15),
  };
}

export const eventKinds = { admitted: 1, token: 2, ended: 3 } as const;

const finishReasons: readonly FinishReason[] = ["stop", "length", "abort", "error"];
const tokenWords = 5;
/** Words of the longest event. */
export const maxEventWords = tokenWords + 2 * maxTopLogprobs;

/** Writes events into one buffer. Each method returns the event's length in words. */
export class EventEncoder {
  readonly words = new Int32Array(maxEventWords);
  readonly #floats = new Float32Array(this.words.buffer);

  /** The request left the waiting ones for the first time. */
  admitted(index: number, cachedTokenCount: number): number {
    this.words[0] = eventKinds.admitted;
    this.words[1] = index;
    this.words[2] = cachedTokenCount;
    return 3;
  }

  /**
   * A token became known.
   *
   * @param topLogprobs alternatives to pass on; -1 when the request asked for no logprob
   */
  token(
    index: number,
    result: StepResult,
    sampleIndex: number,
    topLogprobs: number,
    finishReason: FinishReason | undefined,
  ): number {
    this.words[0] = eventKinds.token;
    this.words[1] = index;
    this.words[2] = finishCode(finishReason);
    this.words[3] = result.tokenIds[sampleIndex] as number;
    if (topLogprobs < 0) return tokenWords - 1;
    this.#floats[4] = result.logprobs[sampleIndex] as number;
    const first = sampleIndex * maxTopLogprobs;
    for (let i = 0; i < topLogprobs; i++) {
      this.words[tokenWords + 2 * i] = result.topTokenIds[first + i] as number;
      this.#floats[tokenWords + 2 * i + 1] = result.topLogprobs[first + i] as number;
    }
    return tokenWords + 2 * topLogprobs;
  }

  /** The request ended without a token. */
  ended(index: number, finishReason: FinishReason): number {
    this.words[0] = eventKinds.ended;
    this.words[1] = index;
    this.words[2] = finishCode(finishReason);
    return 3;
  }
}

/** Takes what an event says. */
export interface EventSink {
  onAdmitted(index: number, cachedTokenCount: number): void;
  onToken(
    index: number,
    tokenId: number,
    logprob: number | undefined,
    topLogprobs: readonly (readonly [tokenId: number, logprob: number])[],
    finishReason: FinishReason | undefined,
  ): void;
  onEnded(index: number, finishReason: FinishReason): void;
}

/** Reads one event of `length` words and hands it to `sink`. */
export function decodeEvent(words: Int32Array, length: number, sink: EventSink): void {
  const index = words[1] as number;
  const kind = words[0];
  if (kind === eventKinds.token) decodeToken(words, length, sink);
  else if (kind === eventKinds.admitted) sink.onAdmitted(index, words[2] as number);
  else if (kind === eventKinds.ended) sink.onEnded(index, lastReasonOf(words));
  else throw new Error(`event of unknown kind ${kind}`);
}

function decodeToken(words: Int32Array, length: number, sink: EventSink): void {
  const hasLogprob = length >= tokenWords;
  const floats = new Float32Array(words.buffer, words.byteOffset, length);
  const topLogprobs: (readonly [number, number])[] = [];
  for (let at = tokenWords; at < length; at += 2) {
    topLogprobs.push([words[at] as number, floats[at + 1] as number]);
  }
  sink.onToken(
    words[1] as number,
    words[3] as number,
    hasLogprob ? floats[4] : undefined,
    topLogprobs,
    finishReasonOf(words[2] as number),
  );
}

function lastReasonOf(words: Int32Array): FinishReason {
  const finishReason = finishReasonOf(words[2] as number);
  if (finishReason === undefined) throw new Error(`request ${words[1]} ends without a reason`);
  return finishReason;
}

/** 0 stands for a request that goes on. */
function finishCode(finishReason: FinishReason | undefined): number {
  return finishReason === undefined ? 0 : finishReasons.indexOf(finishReason) + 1;
}

function finishReasonOf(code: number): FinishReason | undefined {
  return code === 0 ? undefined : finishReasons[code - 1];
}
