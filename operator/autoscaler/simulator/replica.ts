/**
 * One engine in virtual time: continuous batching with chunked prefill, bounded rows and a bounded
 * KV cache, with a linear step time. What it reports is what `quire serve` reports.
 */
import type { ReplicaSample } from "../window.ts";

export interface SimulatedRequest {
  readonly arrivedMs: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** Virtual time of the first output token; `undefined` until then. */
  firstTokenMs?: number;
  doneMs?: number;
}

/** Linear step time, and limits. Milliseconds and tokens. */
export interface EngineModel {
  readonly stepMs: number;
  readonly prefillTokenMs: number;
  readonly decodeRowMs: number;
  readonly contextTokenMs: number;
  readonly maxRows: number;
  readonly maxBatchedTokens: number;
  readonly kvTokens: number;
  /** From creation to the first step. */
  readonly loadMs: number;
}

interface Row {
  readonly request: SimulatedRequest;
  /** Tokens whose keys and values are computed, and those known so far. */
  computed: number;
  generated: number;
  /** Tokens of the step in flight. */
  chunk: number;
}

const rateWeight = 0.1;

export class SimulatedReplica {
  readonly name: string;
  readonly readyMs: number;
  draining = false;
  /** End of the step in flight; `Infinity` while idle. */
  stepEndMs = Number.POSITIVE_INFINITY;
  readonly #model: EngineModel;
  readonly #rows: Row[] = [];
  readonly #waiting: Row[] = [];
  #kvInUse = 0;
  #prefillRate = 0;
  #decodeRate = 0;

  constructor(name: string, createdMs: number, model: EngineModel) {
    this.name = name;
    this.readyMs = createdMs + model.loadMs;
    this.#model = model;
  }

  get inFlight(): number {
    return this.#rows.length + this.#waiting.length;
  }

  enqueue(request: SimulatedRequest, nowMs: number): void {
    this.#waiting.push({ request, computed: 0, generated: 0, chunk: 0 });
    if (this.stepEndMs === Number.POSITIVE_INFINITY) this.#startStep(nowMs);
  }

  /** Commits the step in flight and starts the next. */
  finishStep(): void {
    const nowMs = this.stepEndMs;
    for (let i = this.#rows.length - 1; i >= 0; i--) this.#commit(i, nowMs);
    this.#startStep(nowMs);
  }

  sample(nowMs: number): ReplicaSample {
    return {
      pod: this.name,
      atMs: nowMs,
      kvTokensInUse: this.#kvInUse,
      kvTokensTotal: this.#model.kvTokens,
      runningRequests: this.#rows.length,
      waitingRequests: this.#waiting.length,
      waitingPromptTokens: this.#waiting.reduce((n, row) => n + knownTokens(row), 0),
      prefillTokensPerSecond: this.#prefillRate,
      decodeTokensPerSecond: this.#decodeRate,
    };
  }

  #commit(index: number, nowMs: number): void {
    const row = this.#rows[index];
    if (row === undefined || row.chunk === 0) return;
    row.computed += row.chunk;
    row.chunk = 0;
    if (row.computed < knownTokens(row)) return;
    row.generated += 1;
    row.request.firstTokenMs ??= nowMs;
    if (row.generated < row.request.outputTokens) return;
    row.request.doneMs = nowMs;
    this.#kvInUse -= row.computed;
    this.#rows.splice(index, 1);
  }

  #startStep(nowMs: number): void {
    const { maxBatchedTokens } = this.#model;
    let budget = maxBatchedTokens;
    let prefillTokens = 0;
    let decodeRows = 0;
    for (const row of [...this.#rows]) {
      const chunk = this.#grow(row, Math.min(budget, knownTokens(row) - row.computed));
      budget -= chunk;
      if (row.generated > 0 && chunk === 1) decodeRows += 1;
      else prefillTokens += chunk;
    }
    const admitted = this.#admit(budget);
    prefillTokens += admitted;
    if (prefillTokens + decodeRows === 0) {
      this.stepEndMs = Number.POSITIVE_INFINITY;
      return;
    }
    const durationMs = this.#durationOf(prefillTokens, decodeRows);
    this.#learnRates(prefillTokens, decodeRows, durationMs);
    this.stepEndMs = nowMs + durationMs;
  }

  /** Takes cache for a running row's next tokens, preempting the youngest when there is none. */
  #grow(row: Row, tokens: number): number {
    while (this.#kvInUse + tokens > this.#model.kvTokens) {
      const victim = this.#rows.pop();
      if (victim === undefined) return 0;
      this.#kvInUse -= victim.computed + victim.chunk;
      victim.computed = 0;
      victim.chunk = 0;
      this.#waiting.unshift(victim);
      if (victim === row) return 0;
    }
    if (!this.#rows.includes(row)) return 0;
    this.#kvInUse += tokens;
    row.chunk = tokens;
    return tokens;
  }

  /** Admits waiting requests whose whole prompt fits; returns the tokens they take of this step. */
  #admit(budget: number): number {
    let left = budget;
    while (left > 0 && this.#rows.length < this.#model.maxRows) {
      const row = this.#waiting[0];
      if (row === undefined || !this.#hasRoomFor(row)) break;
      this.#waiting.shift();
      this.#rows.push(row);
      row.chunk = Math.min(left, knownTokens(row));
      this.#kvInUse += row.chunk;
      left -= row.chunk;
    }
    return budget - left;
  }

  /** Prompts that are still being prefilled have their room reserved. */
  #hasRoomFor(row: Row): boolean {
    const reserved = this.#rows.reduce((n, r) => n + knownTokens(r) - r.computed - r.chunk, 0);
    return this.#kvInUse + reserved + knownTokens(row) <= this.#model.kvTokens;
  }

  #durationOf(prefillTokens: number, decodeRows: number): number {
    const { stepMs, prefillTokenMs, decodeRowMs, contextTokenMs } = this.#model;
    return (
      stepMs +
      prefillTokenMs * prefillTokens +
      decodeRowMs * decodeRows +
      contextTokenMs * this.#kvInUse
    );
  }

  #learnRates(prefillTokens: number, decodeRows: number, durationMs: number): void {
    if (prefillTokens > 0) this.#prefillRate = 1_000 / this.#model.prefillTokenMs;
    if (decodeRows === 0) return;
    const rate = (1_000 * decodeRows) / durationMs;
    this.#decodeRate += (this.#decodeRate === 0 ? 1 : rateWeight) * (rate - this.#decodeRate);
  }
}

function knownTokens(row: Row): number {
  return row.request.promptTokens + row.generated;
}
