import type { FinishReason, GenerationRequest } from "../generation.ts";

/** What a request is made of: the generation asked for, and how the engine knows it. */
export interface RequestInit extends Omit<GenerationRequest, "cacheSalt"> {
  /** The caller's number for it, unique among the requests that live. */
  readonly index: number;
  /** `[2]` first link of the prefix cache's hash chain. */
  readonly saltLink: Int32Array;
}

const growthTokens = 256;

/**
 * A generation in flight.
 *
 * `computedCount` (tokens whose keys and values a submitted step computes) catches up with
 * `targetCount` (tokens known, and those being sampled). Prefill, decode, a prefix hit and the
 * recomputation after a preemption are this one rule.
 */
export class Request {
  readonly index: number;
  /** Place in the order of arrival. */
  readonly sequence: number;
  readonly priority: number;
  readonly sampling: GenerationRequest["sampling"];
  readonly promptLength: number;
  readonly maxTokens: number;
  readonly stopTokenIds: Int32Array;
  /** The first `tokenCount` are known. */
  tokens: Int32Array;
  tokenCount: number;
  computedCount = 0;
  /** Tokens that steps in flight sample. */
  pendingCount = 0;
  /** -1 while waiting. */
  row = -1;
  /** Last step that has a chunk of this request. */
  lastStep = 0;
  /** Times that it was given a row. */
  admissionCount = 0;
  /** Prompt tokens that the prefix cache had at the first admission. */
  cachedTokenCount = 0;
  /** Uncached prompt tokens when it arrived: what it adds to the queue. */
  queuedTokens = 0;
  finished: FinishReason | undefined;
  /** `[1 + blocks, 2]` hash chain over the known tokens; link 0 is the salt. */
  links: Int32Array;
  linkCount = 1;
  /** Leading blocks that the prefix cache was offered. */
  offeredBlocks = 0;

  constructor(init: RequestInit, sequence: number, blockSize: number) {
    this.index = init.index;
    this.sequence = sequence;
    this.priority = init.priority;
    this.sampling = init.sampling;
    this.promptLength = init.promptTokenIds.length;
    this.maxTokens = init.maxTokens;
    this.stopTokenIds = init.stopTokenIds;
    this.tokenCount = this.promptLength;
    this.tokens = new Int32Array(this.promptLength + Math.min(init.maxTokens, growthTokens));
    this.tokens.set(init.promptTokenIds);
    this.links = new Int32Array(2 * (2 + Math.floor(this.tokens.length / blockSize)));
    this.links.set(init.saltLink);
  }

  get generatedCount(): number {
    return this.tokenCount - this.promptLength;
  }

  get targetCount(): number {
    return this.tokenCount + this.pendingCount;
  }

  /** Tokens that the next step could compute; 0 when the token in flight is certainly the last. */
  get gap(): number {
    if (this.generatedCount + this.pendingCount >= this.maxTokens) return 0;
    return this.targetCount - this.computedCount;
  }

  /** The next chunk is one generated token. */
  get decodes(): boolean {
    return this.computedCount >= this.promptLength && this.gap === 1;
  }

  /** Takes the token that a step sampled, and says whether it was the last. */
  append(tokenId: number, blockSize: number): FinishReason | undefined {
    if (this.tokenCount === this.tokens.length) this.#grow(blockSize);
    this.tokens[this.tokenCount] = tokenId;
    this.tokenCount += 1;
    this.pendingCount -= 1;
    if (this.stopTokenIds.includes(tokenId)) return "stop";
    return this.generatedCount >= this.maxTokens ? "length" : undefined;
  }

  #grow(blockSize: number): void {
    const limit = this.promptLength + this.maxTokens;
    const tokens = new Int32Array(Math.min(limit, this.tokens.length * 2));
    tokens.set(this.tokens);
    this.tokens = tokens;
    const links = new Int32Array(2 * (2 + Math.floor(tokens.length / blockSize)));
    links.set(this.links);
    this.links = links;
  }
}

/** Requests from the one to serve first to the one to preempt first. */
export class RequestQueue {
  readonly #items: Request[] = [];

  get length(): number {
    return this.#items.length;
  }

  get first(): Request | undefined {
    return this.#items[0];
  }

  get last(): Request | undefined {
    return this.#items.at(-1);
  }

  at(place: number): Request | undefined {
    return this.#items[place];
  }

  [Symbol.iterator](): Iterator<Request> {
    return this.#items[Symbol.iterator]();
  }

  insert(request: Request): void {
    this.#items.splice(this.#placeOf(request), 0, request);
  }

  remove(request: Request): void {
    const place = this.#placeOf(request);
    if (this.#items[place] !== request) throw new Error(`request ${request.index} is not queued`);
    this.#items.splice(place, 1);
  }

  #placeOf(request: Request): number {
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (order(this.#items[middle] as Request, request) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function order(a: Request, b: Request): number {
  return a.priority - b.priority || a.sequence - b.sequence;
}
