import type { EngineStats } from "../generation.ts";

/** Order of the numbers in the shared array. */
const fields = [
  "stepCount",
  "stepsInFlight",
  "heartbeatMs",
  "runningCount",
  "waitingCount",
  "waitingPromptTokens",
  "blockCount",
  "blockSize",
  "freeBlockCount",
  "cachedBlockCount",
  "heldBlockCount",
  "preemptionCount",
  "prefixQueryTokens",
  "prefixHitTokens",
  "promptTokens",
  "generatedTokens",
  "batchedTokens",
  "stepMs",
  "prefillTokensPerSecond",
  "decodeTokensPerSecond",
] as const satisfies readonly (keyof EngineStats)[];

/** Written by the engine thread, read by anyone: one aligned double each, so never half written. */
export type SharedStats = Float64Array<SharedArrayBuffer>;

export function createSharedStats(): SharedStats {
  return new Float64Array(new SharedArrayBuffer(fields.length * Float64Array.BYTES_PER_ELEMENT));
}

export function writeStats(shared: SharedStats, stats: EngineStats): void {
  for (let i = 0; i < fields.length; i++) {
    shared[i] = stats[fields[i] as keyof EngineStats];
  }
}

export function readStats(shared: SharedStats): EngineStats {
  const entries = fields.map((field, i) => [field, shared[i] ?? 0] as const);
  return Object.fromEntries(entries) as unknown as EngineStats;
}

/** How fast work of one kind goes, weighing the past less with time. */
export class TokenRate {
  readonly #memoryMs: number;
  #tokens = 0;
  #milliseconds = 0;

  constructor(memoryMs: number) {
    this.#memoryMs = memoryMs;
  }

  /** Counts a step that computed tokens of this kind. */
  observe(tokens: number, stepMs: number): void {
    if (tokens === 0) return;
    const kept = Math.exp(-stepMs / this.#memoryMs);
    this.#tokens = this.#tokens * kept + tokens;
    this.#milliseconds = this.#milliseconds * kept + stepMs;
  }

  get tokensPerSecond(): number {
    return this.#milliseconds === 0 ? 0 : (this.#tokens * 1000) / this.#milliseconds;
  }
}
