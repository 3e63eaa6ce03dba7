import type { StartupReport } from "../contract.ts";
import { EngineError } from "../errors.ts";
import type { Engine } from "../generation.ts";
import type { Text } from "./text-port.ts";

/** What answers requests once the model is loaded. */
export interface Serving {
  readonly engine: Engine;
  readonly text: Text;
  /** Names that requests may use; the first is the one that answers carry by default. */
  readonly modelNames: readonly [string, ...string[]];
  /** Seconds since 1970, for `created` in /v1/models. */
  readonly createdSeconds: number;
}

/**
 * Where the process is between start and exit: loading, serving, draining. The main program moves it
 * on; the routes ask it.
 */
export class Lifecycle {
  #report: StartupReport = {
    phase: "Resolving",
    doneBytes: 0,
    totalBytes: 0,
    message: "Starting",
  };
  #serving: Serving | undefined;
  #draining = false;
  readonly #inFlight = new Set<() => void>();
  readonly #waiters: (() => void)[] = [];

  /** Progress before serving, or the failure that ended it. */
  publish(report: StartupReport): void {
    this.#report = report;
  }

  serve(serving: Serving): void {
    this.#serving = serving;
    const { doneBytes, totalBytes } = this.#report;
    this.#report = { phase: "Serving", doneBytes, totalBytes, message: "Serving" };
  }

  get report(): StartupReport {
    return this.#report;
  }

  get serving(): Serving | undefined {
    return this.#serving;
  }

  get draining(): boolean {
    return this.#draining;
  }

  get ready(): boolean {
    return this.#report.phase === "Serving" && !this.#draining;
  }

  /** Requests being answered. */
  get inFlightCount(): number {
    return this.#inFlight.size;
  }

  /** @throws EngineError NOT_READY before the model is loaded, DRAINING after `beginDrain` */
  admit(): Serving {
    if (this.#draining) {
      throw new EngineError("DRAINING", "The server is shutting down", {
        remedy: "Send the request again; another replica answers it.",
      });
    }
    return this.requireServing();
  }

  /** @throws EngineError NOT_READY before the model is loaded */
  requireServing(): Serving {
    const serving = this.#serving;
    if (serving !== undefined && this.#report.phase === "Serving") return serving;
    throw new EngineError("NOT_READY", `The model is not ready: ${this.#report.phase}`, {
      remedy: "Try again when /health/ready answers 200.",
    });
  }

  /**
   * Counts a request as in flight until the function it returns is called.
   *
   * @param abort ends the request early when a drain runs out of time
   */
  track(abort: () => void): () => void {
    const entry = () => abort();
    this.#inFlight.add(entry);
    return () => {
      this.#inFlight.delete(entry);
      if (this.#inFlight.size > 0) return;
      for (const wake of this.#waiters.splice(0)) wake();
    };
  }

  /** From here on `ready` is false and new requests are refused; those in flight go on. */
  beginDrain(): void {
    this.#draining = true;
  }

  /** @returns whether everything in flight finished within the time; what did not was aborted */
  async drained(timeoutMs: number): Promise<boolean> {
    if (await this.#idle(timeoutMs)) return true;
    for (const abort of this.#inFlight) abort();
    return false;
  }

  async #idle(timeoutMs: number): Promise<boolean> {
    if (this.#inFlight.size === 0) return true;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#waiters.push(() => resolve(true));
    const timer = setTimeout(resolve, timeoutMs, false);
    const idle = await promise;
    clearTimeout(timer);
    return idle;
  }
}
