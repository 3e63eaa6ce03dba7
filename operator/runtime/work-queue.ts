export interface WorkQueueOptions {
  /** @returns when to look at the key again, in milliseconds; `undefined` for not before it is added. */
  readonly handle: (key: string) => Promise<number | undefined>;
  /** Told of every failure of `handle`; the key is tried again by itself. */
  readonly onError: (key: string, error: unknown) => void;
  /** Keys that are handled at a time. */
  readonly concurrency?: number;
  readonly firstRetryMs?: number;
  readonly maxRetryMs?: number;
}

/** `low` is for what nobody waits for: the first look at everything, and looks just in case. */
export type Priority = "normal" | "low";

// Even while keys of normal priority keep coming, this many of them let one of low priority pass.
const maxNormalInARow = 10;

/**
 * Keys whose state should be looked at, each by one handler at a time.
 *
 * A key that waits already is not added twice, and one that is added while it is handled is handled
 * once more afterwards: what counts is the latest state, not the number of changes.
 */
export class WorkQueue {
  readonly #options: Required<WorkQueueOptions>;
  readonly #waiting: Readonly<Record<Priority, Set<string>>> = {
    normal: new Set(),
    low: new Set(),
  };
  readonly #running = new Map<string, Promise<void>>();
  readonly #timers = new Map<string, { readonly timer: NodeJS.Timeout; readonly atMs: number }>();
  readonly #failures = new Map<string, number>();
  #normalInARow = 0;
  #willPump = false;
  #stopped = false;

  constructor(options: WorkQueueOptions) {
    this.#options = { concurrency: 1, firstRetryMs: 100, maxRetryMs: 30_000, ...options };
  }

  /** Keys that wait for a handler. */
  get depth(): number {
    return this.#waiting.normal.size + this.#waiting.low.size;
  }

  /** A key that failed keeps its pause before a look of low priority. */
  add(key: string, priority: Priority = "normal"): void {
    const { normal, low } = this.#waiting;
    if (this.#stopped || normal.has(key)) return;
    if (priority === "low") {
      if (this.#failures.has(key) && this.#timers.has(key)) return;
      low.add(key);
    } else {
      low.delete(key);
      normal.add(key);
    }
    this.#cancelTimer(key);
    this.#pumpSoon();
  }

  /** Adds the key later, unless it comes up before. */
  addAfter(key: string, delayMs: number): void {
    const { normal, low } = this.#waiting;
    if (this.#stopped || normal.has(key) || low.has(key)) return;
    const atMs = performance.now() + delayMs;
    if ((this.#timers.get(key)?.atMs ?? Number.POSITIVE_INFINITY) <= atMs) return;
    this.#cancelTimer(key);
    const timer = setTimeout(() => {
      this.#timers.delete(key);
      this.add(key);
    }, delayMs);
    this.#timers.set(key, { timer, atMs });
  }

  /** Ends: what is being handled is awaited, what waits is dropped. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#waiting.normal.clear();
    this.#waiting.low.clear();
    for (const key of [...this.#timers.keys()]) this.#cancelTimer(key);
    await Promise.all(this.#running.values());
  }

  #pumpSoon(): void {
    if (this.#willPump) return;
    this.#willPump = true;
    // Not in the caller's stack: keys added in one go are seen together.
    queueMicrotask(() => {
      this.#willPump = false;
      this.#pump();
    });
  }

  #pump(): void {
    while (this.#running.size < this.#options.concurrency) {
      const key = this.#take();
      if (key === undefined) return;
      this.#running.set(key, this.#handle(key));
    }
  }

  #take(): string | undefined {
    const { normal, low } = this.#waiting;
    const isLowsTurn = this.#normalInARow >= maxNormalInARow;
    for (const waiting of isLowsTurn ? [low, normal] : [normal, low]) {
      const key = this.#firstFree(waiting);
      if (key === undefined) continue;
      waiting.delete(key);
      this.#normalInARow = waiting === normal ? this.#normalInARow + 1 : 0;
      return key;
    }
    return undefined;
  }

  /** The key that has waited longest and is not being handled. */
  #firstFree(waiting: ReadonlySet<string>): string | undefined {
    for (const key of waiting) if (!this.#running.has(key)) return key;
    return undefined;
  }

  async #handle(key: string): Promise<void> {
    // Before anything can throw: the map of what runs has the key by then.
    await Promise.resolve();
    try {
      const againMs = await this.#options.handle(key);
      this.#failures.delete(key);
      if (againMs !== undefined) this.addAfter(key, againMs);
    } catch (error) {
      const failures = this.#failures.get(key) ?? 0;
      this.#failures.set(key, failures + 1);
      this.#options.onError(key, error);
      const { firstRetryMs, maxRetryMs } = this.#options;
      this.addAfter(key, Math.min(firstRetryMs * 2 ** failures, maxRetryMs));
    } finally {
      this.#running.delete(key);
      this.#pumpSoon();
    }
  }

  #cancelTimer(key: string): void {
    clearTimeout(this.#timers.get(key)?.timer);
    this.#timers.delete(key);
  }
}
