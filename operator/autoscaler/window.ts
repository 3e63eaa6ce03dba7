/**
 * A service's recent past as the autoscaler needs it: one observation a tick, and what was learned
 * from them. Bounded; knows no clock: every time is an argument, in milliseconds.
 */

/** What one engine said of itself. Field names follow `engine/contract.ts`. */
export interface ReplicaSample {
  readonly pod: string;
  readonly atMs: number;
  readonly kvTokensInUse: number;
  readonly kvTokensTotal: number;
  readonly runningRequests: number;
  readonly waitingRequests: number;
  /** Prompt tokens of waiting requests that no prefix cache holds. */
  readonly waitingPromptTokens: number;
  /** Tokens per second that the engine prefills and decodes when it does; 0 while unknown. */
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
}

/** One look at all replicas of a service. */
export interface Observation {
  readonly atMs: number;
  /** The newest sample of each ready replica that has one. */
  readonly samples: readonly ReplicaSample[];
  readonly readyCount: number;
  /** Created and not ready: supply that is on its way. */
  readonly pendingCount: number;
}

/** Tokens that a service's replicas hold or wait for, at one time. */
export interface DemandPoint {
  readonly atMs: number;
  readonly tokens: number;
}

// The longest stabilization window that the custom resource accepts is an hour.
const keptMs = 3_600_000;
// A service that is read once a second for an hour.
const maxPoints = 4_000;
// Saturated looks that are remembered, over all replicas of a service.
const maxSaturatedLooks = 10;
// A replica whose queue has only just filled holds few tokens yet: believe it from the second look.
const saturatedLooksNeeded = 2;

export class Window {
  readonly #points: DemandPoint[] = [];
  readonly #saturatedTokens: number[] = [];
  /** Consecutive saturated looks of each replica in the latest observation. */
  #saturatedLooks = new Map<string, number>();
  #latest: Observation | undefined;
  #tokensPerRequest = 0;

  get latest(): Observation | undefined {
    return this.#latest;
  }

  /** Demand in tokens at each tick, oldest first. */
  get demand(): readonly DemandPoint[] {
    return this.#points;
  }

  /**
   * Tokens that one replica held at most in the last looks at which it was saturated, whatever
   * bound it (rows, steps or memory); `undefined` until one was seen saturated.
   */
  get saturatedTokens(): number | undefined {
    return this.#saturatedTokens.length === 0 ? undefined : Math.max(...this.#saturatedTokens);
  }

  /**
   * Adds one look.
   *
   * @param queueDepth waiting requests of one replica from which on it counts as saturated
   */
  add(observation: Observation, queueDepth: number): void {
    this.#latest = observation;
    this.#learn(observation, queueDepth);
    this.#points.push({ atMs: observation.atMs, tokens: this.#demandOf(observation) });
    while (this.#points.length > maxPoints || this.#isOld(observation.atMs)) this.#points.shift();
  }

  #learn({ samples }: Observation, queueDepth: number): void {
    const looks = new Map<string, number>();
    for (const sample of samples) {
      if (sample.waitingRequests < queueDepth || sample.runningRequests === 0) continue;
      const seen = (this.#saturatedLooks.get(sample.pod) ?? 0) + 1;
      looks.set(sample.pod, seen);
      if (seen >= saturatedLooksNeeded) this.#saturatedTokens.push(sample.kvTokensInUse);
    }
    this.#saturatedLooks = looks;
    while (this.#saturatedTokens.length > maxSaturatedLooks) this.#saturatedTokens.shift();
  }

  #isOld(nowMs: number): boolean {
    const oldest = this.#points[0];
    return oldest !== undefined && nowMs - oldest.atMs > keptMs;
  }

  /**
   * Tokens in use, and for each waiting request what a running one holds on average, or its prompt
   * if that is more: a request that waits will also need room for its answer.
   */
  #demandOf({ samples }: Observation): number {
    const inUse = sum(samples, (sample) => sample.kvTokensInUse);
    const running = sum(samples, (sample) => sample.runningRequests);
    const waiting = sum(samples, (sample) => sample.waitingRequests);
    const prompts = sum(samples, (sample) => sample.waitingPromptTokens);
    if (running > 0) this.#tokensPerRequest = inUse / running;
    return inUse + Math.max(prompts, waiting * this.#tokensPerRequest);
  }
}

export function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
