import type { Request, RequestQueue } from "./request.ts";
import { StepBatchBuffer } from "./step-batch.ts";
import {
  addDecode,
  addPrefill,
  clearLoad,
  emptyLoad,
  type StepLoad,
  type StepTimeModel,
} from "./step-time-model.ts";

/** One step between `schedule` and `commit`. Used again once it has retired. */
export class Step {
  readonly batch: StepBatchBuffer;
  readonly load: StepLoad = emptyLoad();
  readonly #requests: Request[] = [];

  constructor(maxChunks: number, maxTokens: number) {
    this.batch = new StepBatchBuffer(maxChunks, maxTokens);
  }

  clear(): void {
    this.batch.clear();
    this.#requests.length = 0;
    clearLoad(this.load);
  }

  request(chunk: number): Request {
    return this.#requests[chunk] as Request;
  }

  samples(chunk: number): boolean {
    return this.batch.flags[chunk] !== 0;
  }

  /** Adds the next `count` tokens of a request; the last of its gap samples. */
  add(request: Request, count: number): void {
    const start = request.computedCount;
    const decodes = request.decodes;
    const samples = count === request.gap;
    this.batch.add(request.row, start, count, request.tokens, request.tokenCount, samples);
    this.#requests.push(request);
    if (decodes) addDecode(this.load, start);
    else addPrefill(this.load, start, count);
    request.computedCount += count;
    if (samples) request.pendingCount += 1;
  }
}

interface BudgetLimits {
  readonly blockSize: number;
  readonly maxBatchedTokens: number;
  readonly targetItlMs: number;
}

/** Blocks of prefill that a step beside decodes may take while the time model is still cold. */
const coldPrefillBlocks = 4;

/**
 * What a step may still take. Every decode has its token set aside from the start, so that an older
 * prompt never takes it; prefill shares the rest, and while anything decodes it also keeps the
 * predicted time of the step within `targetItlMs`. One block of prefill goes ahead in any case:
 * a target that the decodes alone miss must not starve the prompts.
 */
export class StepBudget {
  readonly #limits: BudgetLimits;
  readonly #timeModel: StepTimeModel;
  /** All decodes of the step, and the prefill so far. */
  readonly #planned = emptyLoad();

  constructor(limits: BudgetLimits, timeModel: StepTimeModel) {
    this.#limits = limits;
    this.#timeModel = timeModel;
  }

  /** Sets a token aside for each running request that decodes. */
  start(running: RequestQueue): void {
    clearLoad(this.#planned);
    for (let place = 0; place < running.length; place++) {
      const request = running.at(place) as Request;
      if (request.decodes) addDecode(this.#planned, request.computedCount);
    }
  }

  /** How many of a request's `gap` tokens from position `start` on the step may prefill. */
  prefill(start: number, gap: number): number {
    const { maxBatchedTokens, blockSize, targetItlMs } = this.#limits;
    const planned = this.#planned;
    const room = maxBatchedTokens - planned.decodeRows - planned.prefillTokens;
    const wanted = Math.min(gap, room);
    if (targetItlMs === 0 || planned.decodeRows === 0) return wanted;
    const assured = Math.min(wanted, Math.max(0, blockSize - planned.prefillTokens));
    return Math.max(assured, this.#prefillInTime(start, wanted));
  }

  #prefillInTime(start: number, wanted: number): number {
    const planned = this.#planned;
    const { blockSize, targetItlMs } = this.#limits;
    if (this.#timeModel.isReady) {
      return this.#timeModel.prefillWithin(planned, start, wanted, targetItlMs);
    }
    return Math.max(0, Math.min(wanted, coldPrefillBlocks * blockSize - planned.prefillTokens));
  }

  /** Takes what `prefill` allowed. */
  spendPrefill(start: number, count: number): void {
    addPrefill(this.#planned, start, count);
  }
}
