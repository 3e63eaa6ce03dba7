import type { FinishReason, Generation, GenerationUpdate } from "../generation.ts";

type TopLogprobs = readonly (readonly [tokenId: number, logprob: number])[];

/**
 * The main thread's end of one generation: tokens gather here until the reader asks, so a slow
 * reader holds up nobody. It never holds more than the request's `maxTokens`. One reader at a time;
 * leaving its loop early aborts the request.
 */
export class GenerationStream implements Generation {
  readonly #onAbort: () => void;
  #tokenIds: number[] = [];
  #logprobs: number[] = [];
  #topLogprobs: TopLogprobs[] = [];
  #cachedTokenCount = 0;
  #finishReason: FinishReason | undefined;
  /** The update that carries the finish reason was read. */
  #read = false;
  #aborted = false;
  #wake: (() => void) | undefined;

  /** @param onAbort tells the engine; called at most once, and not after the end */
  constructor(onAbort: () => void) {
    this.#onAbort = onAbort;
  }

  admit(cachedTokenCount: number): void {
    this.#cachedTokenCount = cachedTokenCount;
  }

  add(tokenId: number, logprob: number | undefined, topLogprobs: TopLogprobs): void {
    this.#tokenIds.push(tokenId);
    if (logprob !== undefined) {
      this.#logprobs.push(logprob);
      this.#topLogprobs.push(topLogprobs);
    }
    this.#wake?.();
  }

  end(finishReason: FinishReason): void {
    this.#finishReason = finishReason;
    this.#wake?.();
  }

  abort(): void {
    if (this.#aborted || this.#finishReason !== undefined) return;
    this.#aborted = true;
    this.#onAbort();
  }

  [Symbol.asyncIterator](): AsyncIterator<GenerationUpdate> {
    return {
      next: () => this.#next(),
      return: async () => {
        this.abort();
        return { done: true, value: undefined };
      },
    };
  }

  async #next(): Promise<IteratorResult<GenerationUpdate>> {
    if (this.#read) return { done: true, value: undefined };
    while (this.#tokenIds.length === 0 && this.#finishReason === undefined) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#wake = undefined;
    this.#read = this.#finishReason !== undefined;
    const update = {
      tokenIds: this.#tokenIds,
      logprobs: this.#logprobs,
      topLogprobs: this.#topLogprobs,
      cachedTokenCount: this.#cachedTokenCount,
      finishReason: this.#finishReason,
    };
    this.#tokenIds = [];
    this.#logprobs = [];
    this.#topLogprobs = [];
    return { done: false, value: update };
  }
}
