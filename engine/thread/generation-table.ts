import type { FinishReason } from "../generation.ts";
import { QueueLimit, type QueueLimits } from "../scheduler/queue-limit.ts";
import { GenerationStream } from "./generation-stream.ts";
import type { EventSink } from "./ring-messages.ts";

type TopLogprobs = readonly (readonly [tokenId: number, logprob: number])[];

/**
 * The generations in flight by index, as events from the engine thread find them. An index is used
 * again once its last event has come, so no event can reach a later generation.
 */
export class GenerationTable implements EventSink {
  readonly #streams = new Map<number, GenerationStream>();
  readonly #freeIndexes: number[];
  readonly #queue: QueueLimit;
  readonly #idleWaiters: (() => void)[] = [];

  constructor(limits: QueueLimits) {
    const capacity = limits.maxRows + limits.maxWaitingRequests;
    this.#freeIndexes = Array.from({ length: capacity }, (_, i) => capacity - 1 - i);
    this.#queue = new QueueLimit(limits);
  }

  /** @throws EngineError QUEUE_FULL */
  assertRoom(promptLength: number, queuedCount: number): void {
    this.#queue.assertRoom(promptLength, queuedCount);
  }

  /** The index that the next `open` takes. */
  get nextIndex(): number {
    const index = this.#freeIndexes.at(-1);
    if (index === undefined) throw new Error("all generation indexes are taken");
    return index;
  }

  /** @param onAbort tells the engine to give up the generation of this index */
  open(promptLength: number, onAbort: (index: number) => void): GenerationStream {
    const index = this.nextIndex;
    this.#freeIndexes.pop();
    const stream = new GenerationStream(() => onAbort(index));
    this.#streams.set(index, stream);
    this.#queue.add(index, promptLength);
    return stream;
  }

  onAdmitted(index: number, cachedTokenCount: number): void {
    this.#queue.start(index);
    this.#streamAt(index).admit(cachedTokenCount);
  }

  onToken(
    index: number,
    tokenId: number,
    logprob: number | undefined,
    topLogprobs: TopLogprobs,
    finishReason: FinishReason | undefined,
  ): void {
    this.#streamAt(index).add(tokenId, logprob, topLogprobs);
    if (finishReason !== undefined) this.onEnded(index, finishReason);
  }

  onEnded(index: number, finishReason: FinishReason): void {
    this.#streamAt(index).end(finishReason);
    this.#streams.delete(index);
    this.#freeIndexes.push(index);
    this.#queue.end(index);
    if (this.#streams.size === 0) for (const wake of this.#idleWaiters.splice(0)) wake();
  }

  endAll(finishReason: FinishReason): void {
    for (const index of [...this.#streams.keys()]) this.onEnded(index, finishReason);
  }

  /** Resolves when no generation is left. */
  async idle(): Promise<void> {
    if (this.#streams.size === 0) return;
    await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
  }

  #streamAt(index: number): GenerationStream {
    const stream = this.#streams.get(index);
    if (stream === undefined) throw new Error(`an event arrives for generation ${index}`);
    return stream;
  }
}
