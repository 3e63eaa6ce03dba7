export interface WorkQueueOptions {
  /** @returns when to look at the key again, in milliseconds; `undefined` for not before it is added. */
  readonly handle: (key: string) => Promise<number | undefined>;
  /** Told of every failure of `handle`; the key is tried again by itself. */
  readonly onError: (key: string, error: unknown) => void;
  readonly firstRetryMs?: number;
  readonly maxRetryMs?: number;
}

/**
 * Keys whose state should be looked at, one at a time.
 *
 * A key that waits already is not added twice, and one that is added while it is handled is handled
 * once more afterwards: what counts is the latest state, not the number of changes.
 */
export class WorkQueue {
  readonly #options: Required<WorkQueueOptions>;
  readonly #waiting = new Set<string>();
  readonly #timers = new Map<string, NodeJS.Timeout>();
  readonly #failures = new Map<string, number>();
  #draining: Promise<void> | undefined;
  #stopped = false;

  constructor(options: WorkQueueOptions) {
    this.#options = { firstRetryMs: 100, maxRetryMs: 30_000, ...options };
  }

  add(key: string): void {
    if (this.#stopped) return;
    this.#cancelTimer(key);
    this.#waiting.add(key);
    this.#draining ??= this.#drain();
  }

  /** Ends: what is being handled is awaited, what waits is dropped. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#waiting.clear();
    for (const key of [...this.#timers.keys()]) this.#cancelTimer(key);
    await this.#draining;
  }

  async #drain(): Promise<void> {
    // Not in the caller's stack: keys added in one go are seen together.
    await Promise.resolve();
    for (const key of this.#waiting) {
      this.#waiting.delete(key);
      await this.#handle(key);
    }
    this.#draining = undefined;
  }

  async #handle(key: string): Promise<void> {
    try {
      const againMs = await this.#options.handle(key);
      this.#failures.delete(key);
      if (againMs !== undefined) this.#addLater(key, againMs);
    } catch (error) {
      const failures = this.#failures.get(key) ?? 0;
      this.#failures.set(key, failures + 1);
      this.#options.onError(key, error);
      const { firstRetryMs, maxRetryMs } = this.#options;
      this.#addLater(key, Math.min(firstRetryMs * 2 ** failures, maxRetryMs));
    }
  }

  #addLater(key: string, delayMs: number): void {
    if (this.#stopped || this.#waiting.has(key)) return;
    this.#cancelTimer(key);
    this.#timers.set(
      key,
      setTimeout(() => this.add(key), delayMs),
    );
  }

  #cancelTimer(key: string): void {
    clearTimeout(this.#timers.get(key));
    this.#timers.delete(key);
  }
}
