import { isConflict, NotLeaderError } from "./api-error.ts";
import { type Priority, WorkQueue } from "./work-queue.ts";

export interface ControllerOptions {
  /** @returns when to look again, in milliseconds; `undefined` to wait for the next change. */
  readonly reconcile: (key: string, signal: AbortSignal) => Promise<number | undefined>;
  /** Told of how each reconcile ended and how long it took. */
  readonly onOutcome: (key: string, outcome: ReconcileOutcome) => void;
  readonly deadlineMs?: number;
}

export interface ReconcileOutcome {
  /**
   * `conflict`: something was written for a state that had passed, it is done anew at once.
   * `failed`: it is tried again, later each time.
   */
  readonly kind: "done" | "conflict" | "failed";
  readonly seconds: number;
  readonly error?: unknown;
}

// Reconciling waits for the API server, not for the processor.
const workerCount = 8;
const defaultDeadlineMs = 60_000;
// Time for the watch to bring the state that the write had missed.
const conflictPauseMs = 50;
const firstRetryMs = 100;
const maxRetryMs = 300_000;

/** Turns keys into reconciles, whatever one of them does. Does nothing before `start`. */
export class Controller {
  readonly #options: ControllerOptions;
  #queue: WorkQueue | undefined;

  constructor(options: ControllerOptions) {
    this.#options = options;
  }

  get depth(): number {
    return this.#queue?.depth ?? 0;
  }

  /** @param keys everything there is: what happened before nobody looked. */
  start(keys: Iterable<string>): void {
    const queue = new WorkQueue({
      handle: (key) => this.#reconcile(key),
      onError: () => undefined,
      concurrency: workerCount,
      firstRetryMs,
      maxRetryMs,
    });
    this.#queue = queue;
    for (const key of keys) queue.add(key, "low");
  }

  add(key: string, priority: Priority = "normal"): void {
    this.#queue?.add(key, priority);
  }

  addAfter(key: string, delayMs: number): void {
    this.#queue?.addAfter(key, delayMs);
  }

  /** Awaits the reconciles under way. */
  async stop(): Promise<void> {
    await this.#queue?.stop();
  }

  async #reconcile(key: string): Promise<number | undefined> {
    const startMs = performance.now();
    const end = (kind: ReconcileOutcome["kind"], error?: unknown) => {
      const seconds = (performance.now() - startMs) / 1_000;
      this.#options.onOutcome(key, { kind, seconds, ...(error === undefined ? {} : { error }) });
    };
    const signal = AbortSignal.timeout(this.#options.deadlineMs ?? defaultDeadlineMs);
    try {
      const againMs = await this.#options.reconcile(key, signal);
      end("done");
      return againMs;
    } catch (error) {
      if (isConflict(error)) {
        end("conflict", error);
        return conflictPauseMs;
      }
      end("failed", error);
      // The next leader has it from here on.
      if (error instanceof NotLeaderError) return undefined;
      throw error;
    }
  }
}
