import type { StepResult } from "../device.ts";
import type { FinishReason } from "../generation.ts";
import { KvCache } from "./kv-cache.ts";
import { Request, type RequestInit, RequestQueue } from "./request.ts";
import { Step, StepBudget } from "./step.ts";
import type { StepPlan } from "./step-plan.ts";
import { StepTimeModel } from "./step-time-model.ts";

export interface SchedulerLimits {
  readonly blockCount: number;
  /** Tokens per block. */
  readonly blockSize: number;
  /** Requests that may be running at once. */
  readonly maxRows: number;
  /** Tokens per step; at least `maxRows`, so that decodes always fit. */
  readonly maxBatchedTokens: number;
  /** Longest request in tokens; its blocks fit into the pool. */
  readonly maxModelLen: number;
  /** Time that a step with decodes may take; prefill chunks are cut to it. 0 sets no limit. */
  readonly targetItlMs: number;
  /** Whether blocks are kept, once nobody holds them, for requests that begin alike. */
  readonly prefixCaching: boolean;
}

/** Hears of every token that becomes known, in the order of the batch. */
export interface TokenSink {
  /**
   * @param sampleIndex the token's place in the step's result
   * @param finishReason set with the request's last token
   */
  onToken(request: Request, sampleIndex: number, finishReason: FinishReason | undefined): void;
}

/** Sums since the start. */
export interface SchedulerCounters {
  preemptionCount: number;
  /** Prompt tokens looked up in the prefix cache, and found there. */
  prefixQueryTokens: number;
  prefixHitTokens: number;
  /** Prompt tokens of admitted requests. */
  promptTokens: number;
  generatedTokens: number;
  /** Tokens of finished steps. */
  batchedTokens: number;
}

/** Share of the blocks that admission leaves for the requests that already run. */
const watermark = 0.01;
const maxStepsInFlight = 2;

/**
 * Decides what each step computes, and takes in what it sampled.
 *
 * One rule: a request's computed tokens catch up with its known ones. The running requests come
 * first, best priority and oldest first, then the waiting ones while tokens, rows and blocks last.
 * `schedule` may run one step ahead: a decode whose token is still in flight computes whatever its
 * row sampled last, and a request that turns out to have stopped wastes that one chunk.
 *
 * Steps run in order, so a block may be shared as soon as the step that writes it is scheduled; it
 * is written again only after every step that touches it has retired.
 */
export class Scheduler {
  readonly counters: SchedulerCounters = {
    preemptionCount: 0,
    prefixQueryTokens: 0,
    prefixHitTokens: 0,
    promptTokens: 0,
    generatedTokens: 0,
    batchedTokens: 0,
  };
  readonly kv: KvCache;
  readonly #limits: SchedulerLimits;
  readonly #timeModel = new StepTimeModel();
  readonly #budget: StepBudget;
  readonly #waiting = new RequestQueue();
  readonly #running = new RequestQueue();
  readonly #requests = new Map<number, Request>();
  readonly #steps: readonly Step[];
  /** Number of the last step scheduled, and of the last one retired. */
  #scheduledStep = 0;
  #retiredStep = 0;
  #arrivalCount = 0;
  #queuedTokens = 0;
  readonly #opened: Request[] = [];
  readonly #grownRows: Int32Array;
  #grownCount = 0;

  constructor(limits: SchedulerLimits) {
    assertLimits(limits);
    const { maxRows, maxBatchedTokens } = limits;
    this.#limits = limits;
    this.kv = new KvCache(limits);
    this.#budget = new StepBudget(limits, this.#timeModel);
    this.#steps = Array.from(
      { length: maxStepsInFlight },
      () => new Step(maxRows, maxBatchedTokens),
    );
    this.#grownRows = new Int32Array(maxRows);
  }

  get runningCount(): number {
    return this.#running.length;
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** Prompt tokens of waiting requests that the prefix cache did not have when they arrived. */
  get waitingPromptTokens(): number {
    return this.#queuedTokens;
  }

  get stepsInFlight(): number {
    return this.#scheduledStep - this.#retiredStep;
  }

  /** Adds a request to the waiting ones. Its prompt and `maxTokens` fit into `maxModelLen`. */
  enqueue(init: RequestInit): Request {
    const request = new Request(init, this.#arrivalCount++, this.#limits.blockSize);
    const length = request.promptLength + request.maxTokens;
    if (request.promptLength < 1 || request.maxTokens < 1 || length > this.#limits.maxModelLen) {
      throw new Error(
        `request ${init.index}: ${request.promptLength} prompt tokens and ${request.maxTokens} to ` +
          `generate, of ${this.#limits.maxModelLen} together`,
      );
    }
    if (this.#requests.has(init.index)) throw new Error(`request ${init.index} lives already`);
    this.#requests.set(init.index, request);
    const cachedTokens = this.kv.findPrefix(request) * this.#limits.blockSize;
    request.queuedTokens = request.promptLength - cachedTokens;
    this.#wait(request);
    return request;
  }

  /** Gives a request up. Returns it, or `undefined` if it is not (or no longer) there. */
  abort(index: number): Request | undefined {
    const request = this.#requests.get(index);
    if (request !== undefined) this.#finish(request, "abort");
    return request;
  }

  /** Gives up everything, oldest first. */
  abortAll(): Request[] {
    const requests = [...this.#requests.values()];
    for (const request of requests) this.#finish(request, "abort");
    return requests;
  }

  /** Decides the next step; `undefined` when nothing can be computed before a step retires. */
  schedule(): StepPlan | undefined {
    if (this.stepsInFlight === maxStepsInFlight) throw new Error("a third step is scheduled");
    const step = this.#stepAt(this.#scheduledStep + 1);
    step.clear();
    this.#opened.length = 0;
    this.#grownCount = 0;
    this.#budget.start(this.#running);

    const preempted = this.#continueRunning(step);
    // A step that had to preempt is short of blocks: admitting now would only preempt again.
    if (!preempted) this.#admitWaiting(step);
    if (step.batch.chunkCount === 0) return undefined;

    this.#scheduledStep += 1;
    for (let i = 0; i < step.batch.chunkCount; i++) this.kv.offer(step.request(i));
    return {
      batch: step.batch,
      opened: this.#opened,
      grownRows: this.#grownRows,
      grownCount: this.#grownCount,
    };
  }

  /** Takes in the result of the oldest step in flight. */
  commit(result: StepResult, sink: TokenSink): void {
    if (this.stepsInFlight === 0) throw new Error("a result arrives while no step is in flight");
    const step = this.#stepAt(this.#retiredStep + 1);
    this.#retiredStep += 1;
    let sampleIndex = 0;
    for (let i = 0; i < step.batch.chunkCount; i++) {
      if (!step.samples(i)) continue;
      this.#take(step.request(i), result.tokenIds[sampleIndex] as number, sampleIndex, sink);
      sampleIndex += 1;
    }
    if (sampleIndex !== result.sampledCount) {
      throw new Error(`${result.sampledCount} tokens arrive for ${sampleIndex} sampling chunks`);
    }
    this.kv.rows.retire(this.#retiredStep);
    this.#timeModel.observe(step.load, result.stepMs);
    this.counters.batchedTokens += step.batch.tokenCount;
    step.clear();
  }

  /** The load of the oldest step in flight. */
  get oldestLoad(): Readonly<Step["load"]> {
    return this.#stepAt(this.#retiredStep + 1).load;
  }

  /** @throws Error naming the rule that is broken */
  assertConsistent(): void {
    this.kv.assertConsistent(this.#running);
    if (this.#running.length + this.#waiting.length !== this.#requests.size) {
      throw new Error(`${this.#requests.size} requests live, and not each is running or waiting`);
    }
  }

  /** Returns whether a request was preempted. */
  #continueRunning(step: Step): boolean {
    const before = this.counters.preemptionCount;
    for (let place = 0; place < this.#running.length; place++) {
      const request = this.#running.at(place) as Request;
      const decodes = request.decodes;
      const count = decodes ? 1 : this.#budget.prefill(request.computedCount, request.gap);
      if (count === 0 || !this.#makeRoom(request, request.computedCount + count)) continue;
      if (!decodes) this.#budget.spendPrefill(request.computedCount, count);
      this.#addChunk(step, request, count);
    }
    return this.counters.preemptionCount > before;
  }

  /**
   * Sees that the row has blocks for `tokenCount` tokens, preempting from the far end of the running
   * requests, this one at last. Blocks of a fenced row come back with the step in flight: while
   * there are any, the request sits this step out instead.
   */
  #makeRoom(request: Request, tokenCount: number): boolean {
    while (!this.kv.covers(request, tokenCount)) {
      if (this.kv.grow(request)) {
        this.#grownRows[this.#grownCount++] = request.row;
        continue;
      }
      if (this.kv.rows.fencedCount > 0) return false;
      const victim = this.#running.last as Request;
      this.#preempt(victim);
      if (victim === request) return false;
    }
    return true;
  }

  #addChunk(step: Step, request: Request, count: number): void {
    step.add(request, count);
    request.lastStep = this.#scheduledStep + 1;
  }

  #admitWaiting(step: Step): void {
    while (this.kv.rows.freeCount > 0) {
      const request = this.#waiting.first;
      if (request === undefined || !this.#admit(step, request)) return;
    }
  }

  /** Gives a row and blocks for all known tokens, or nothing: a half-placed prompt could deadlock. */
  #admit(step: Step, request: Request): boolean {
    const { pool, rows } = this.kv;
    // The step that samples it was committed before the first schedule after the preemption's.
    if (request.pendingCount > 0) throw new Error(`request ${request.index} awaits a token`);
    const hitBlocks = this.kv.findPrefix(request);
    const reserve = rows.isEmpty ? 0 : Math.ceil(pool.blockCount * watermark);
    if (this.kv.demand(request, hitBlocks) + reserve > pool.availableCount) return false;
    const start = hitBlocks * this.#limits.blockSize;
    const count = this.#budget.prefill(start, request.tokenCount - start);
    if (count === 0) return false;
    this.#open(request, hitBlocks);
    this.#budget.spendPrefill(start, count);
    this.#addChunk(step, request, count);
    return true;
  }

  #open(request: Request, hitBlocks: number): void {
    this.#leaveWaiting(request);
    this.kv.open(request, hitBlocks);
    this.#running.insert(request);
    this.#opened.push(request);
    request.admissionCount += 1;
    if (request.admissionCount > 1) return;
    request.cachedTokenCount = request.computedCount;
    this.counters.promptTokens += request.promptLength;
    this.counters.prefixQueryTokens += request.promptLength;
    this.counters.prefixHitTokens += request.computedCount;
  }

  #preempt(request: Request): void {
    this.counters.preemptionCount += 1;
    this.#leaveRow(request);
    this.#wait(request);
  }

  #take(request: Request, tokenId: number, sampleIndex: number, sink: TokenSink): void {
    if (request.finished !== undefined) return;
    const finishReason = request.append(tokenId, this.#limits.blockSize);
    this.counters.generatedTokens += 1;
    if (request.row !== -1) this.kv.offer(request);
    if (finishReason !== undefined) this.#finish(request, finishReason);
    sink.onToken(request, sampleIndex, finishReason);
  }

  #finish(request: Request, reason: FinishReason): void {
    request.finished = reason;
    this.#requests.delete(request.index);
    if (request.row === -1) this.#leaveWaiting(request);
    else this.#leaveRow(request);
  }

  #wait(request: Request): void {
    this.#waiting.insert(request);
    this.#queuedTokens += request.queuedTokens;
  }

  #leaveWaiting(request: Request): void {
    this.#waiting.remove(request);
    this.#queuedTokens -= request.queuedTokens;
  }

  #leaveRow(request: Request): void {
    this.#running.remove(request);
    this.kv.rows.close(request.row, request.lastStep, this.#retiredStep);
    request.row = -1;
  }

  #stepAt(sequence: number): Step {
    return this.#steps[sequence % maxStepsInFlight] as Step;
  }
}

function assertLimits(limits: SchedulerLimits): void {
  const { blockCount, blockSize, maxRows, maxBatchedTokens, maxModelLen } = limits;
  if (maxBatchedTokens < maxRows) {
    throw new Error(`${maxBatchedTokens} tokens per step cannot decode ${maxRows} rows`);
  }
  if (Math.ceil(maxModelLen / blockSize) > blockCount) {
    throw new Error(`${maxModelLen} tokens exceed ${blockCount} blocks of ${blockSize}`);
  }
}
