import { Worker } from "node:worker_threads";
import { NotLeaderError } from "./api-error.ts";
import type { Connection, Credentials } from "./credentials.ts";
import { Fence } from "./fence.ts";
import type { Leadership } from "./leader.ts";
import type { LeaseOrder, LeaseReport, LeaseThreadData } from "./lease-thread.ts";

export interface ElectionOptions {
  readonly credentials: Credentials;
  readonly namespace: string;
  readonly leaseName: string;
  readonly identity: string;
  /** Told of attempts that failed; they go on. */
  readonly onError: (message: string) => void;
}

// Credentials that were rotated reach the thread long before the old ones end.
const connectionPollMs = 30_000;
const releaseTimeoutMs = 5_000;

/** Leadership of this process, held by a thread of its own. */
export class Election {
  /** Resolves once this process leads. */
  readonly leading: Promise<void>;
  /** Resolves once it does not any more, for whatever reason. */
  readonly lost: Promise<void>;
  readonly #options: ElectionOptions;
  readonly #fence = new Fence();
  readonly #leading = Promise.withResolvers<void>();
  readonly #lost = Promise.withResolvers<void>();
  readonly #released = Promise.withResolvers<void>();
  #worker: Worker | undefined;
  #poll: NodeJS.Timeout | undefined;

  constructor(options: ElectionOptions) {
    this.#options = options;
    this.leading = this.#leading.promise;
    this.lost = this.#lost.promise;
  }

  get isLeading(): boolean {
    return this.#fence.isOpen;
  }

  /** @throws NotLeaderError at a moment at which another process may lead. */
  readonly assertLeading = (): void => {
    if (this.isLeading) return;
    throw new NotLeaderError("held back: this process does not hold the lease (any more)");
  };

  async start(): Promise<void> {
    const { credentials, namespace, leaseName, identity } = this.#options;
    let connection = await credentials.current();
    const fence = this.#fence.buffer;
    const data: LeaseThreadData = { namespace, leaseName, identity, fence, connection };
    const worker = new Worker(new URL("./lease-thread.ts", import.meta.url), { workerData: data });
    this.#worker = worker;
    worker.on("message", (report: LeaseReport) => this.#take(report));
    worker.on("error", (error) => this.#options.onError(String(error)));
    worker.on("exit", () => {
      this.#released.resolve();
      this.#lost.resolve();
    });
    this.#poll = setInterval(async () => {
      const current = await credentials.current().catch(() => connection);
      if (JSON.stringify(current) === JSON.stringify(connection)) return;
      connection = current;
      this.#order({ connection: current satisfies Connection });
    }, connectionPollMs);
  }

  /** Lets another process lead at once. */
  async release(): Promise<void> {
    clearInterval(this.#poll);
    if (this.#worker === undefined) return;
    this.#order("release");
    const timeout = setTimeout(() => this.#released.resolve(), releaseTimeoutMs);
    await this.#released.promise;
    clearTimeout(timeout);
    await this.#worker.terminate();
  }

  #order(order: LeaseOrder): void {
    this.#worker?.postMessage(order);
  }

  #take(report: LeaseReport): void {
    if (report === "released") this.#released.resolve();
    else if ("error" in report) this.#options.onError(report.error);
    else this.#follow(report.leadership);
  }

  #follow(leadership: Leadership): void {
    if (leadership === "leading") this.#leading.resolve();
    if (leadership === "lost") this.#lost.resolve();
  }
}
