import { Worker } from "node:worker_threads";
import type { MemoryPlan } from "../device.ts";
import { EngineError } from "../errors.ts";
import {
  type EngineThreadData,
  type EngineThreadMessage,
  fromErrorData,
  type ReadyMessage,
} from "./thread-messages.ts";

/** The engine thread as the main thread sees it: it becomes ready, and it ends. */
export class ThreadHandle {
  /** Rejects with the reason when the thread ends before its device has loaded. */
  readonly ready: Promise<ReadyMessage>;
  /** Resolves with what killed the thread, or `undefined` when it ended as asked. */
  readonly ended: Promise<EngineError | undefined>;
  readonly #worker: Worker;
  #expected = false;

  constructor(data: EngineThreadData, onPlan: (plan: MemoryPlan) => void) {
    const ready = Promise.withResolvers<ReadyMessage>();
    const ended = Promise.withResolvers<EngineError | undefined>();
    this.ready = ready.promise;
    this.ended = ended.promise;
    const fail = (error: EngineError): void => {
      ready.reject(error);
      ended.resolve(error);
    };
    this.#worker = new Worker(new URL("./engine-thread.ts", import.meta.url), { workerData: data });
    this.#worker.on("message", (message: EngineThreadMessage) => {
      if (message.kind === "planned") onPlan(message.plan);
      else if (message.kind === "ready") ready.resolve(message);
      else fail(fromErrorData(message.error));
    });
    this.#worker.on("error", (cause) => fail(died(`of an error: ${String(cause)}`, cause)));
    this.#worker.on("exit", (code) => {
      if (this.#expected) ended.resolve(undefined);
      fail(died(`with code ${code}`, undefined));
    });
  }

  /** From here on the thread may end by itself. */
  expectEnd(): void {
    this.#expected = true;
  }

  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }
}

function died(how: string, cause: unknown): EngineError {
  return new EngineError("DEVICE_FAILED", `the engine thread ended ${how}`, {
    remedy: "Start the process again; if it recurs, report it with the log.",
    cause,
  });
}
