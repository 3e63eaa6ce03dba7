import type { DeviceInfo, DeviceOptions, LoadProgress, MemoryPlan } from "../device.ts";
import { EngineError } from "../errors.ts";
import type { Engine, EngineStats, Generation, GenerationRequest } from "../generation.ts";
import type { Model } from "../models/model-spec.ts";
import { hashSalt } from "../scheduler/prefix-cache.ts";
import { GenerationTable } from "./generation-table.ts";
import { CommandEncoder, commandKinds, decodeEvent, shortCommandWords } from "./ring-messages.ts";
import { createRing, RingReader, RingWriter } from "./rings.ts";
import { createSharedStats, readStats, type SharedStats } from "./shared-stats.ts";
import { ThreadHandle } from "./thread-handle.ts";
import type { EngineThreadData, ReadyMessage } from "./thread-messages.ts";

export interface EngineLimits {
  /** Requests that may wait beyond those that can run; one more is QUEUE_FULL. */
  readonly maxWaitingRequests: number;
  /** Prompt tokens that may wait to run. */
  readonly maxWaitingTokens: number;
  /** Time that a step with decodes may take, in milliseconds; 0 sets no limit. */
  readonly targetItlMs: number;
  /** Whether blocks of finished requests are kept for requests that begin alike. */
  readonly prefixCaching: boolean;
}

export interface StartEngineOptions {
  readonly model: Model;
  readonly deviceOptions: DeviceOptions;
  readonly limits: EngineLimits;
  /** URL of a module that exports a `DeviceDriver` as `driver`. */
  readonly driverModule: string;
  /** Bytes loaded and in all, filled in while `startEngine` has not resolved. */
  readonly progress?: LoadProgress;
  /** Called with the plan, before the first byte is loaded. */
  readonly onPlan?: (plan: MemoryPlan) => void;
}

export interface RunningEngine {
  readonly engine: Engine;
  readonly plan: MemoryPlan;
  readonly info: DeviceInfo;
  /** Refuses new requests (DRAINING), and resolves when none is left. */
  drain(): Promise<void>;
  /**
   * Aborts what runs, and resolves when the device is closed and the thread has ended. After
   * `timeoutMs` (10 s) the thread is ended by force.
   */
  close(timeoutMs?: number): Promise<void>;
  /**
   * Calls `listener` once if the engine dies, after all generations have ended with `error`. The
   * engine does not come back: the process should exit.
   */
  onFatal(listener: (error: EngineError) => void): void;
}

/** Words of the event ring: seconds of tokens, should the main thread stand still. */
const eventWords = 1 << 18;
const minCommandWords = 1 << 18;
const closeTimeoutMs = 10_000;

/**
 * Starts the engine thread and waits until its device has loaded.
 *
 * @throws EngineError what the device found wrong with the model or the machine, CONFIG_INVALID for
 * limits that contradict each other, or DEVICE_FAILED when the thread ends without a word
 */
export async function startEngine(options: StartEngineOptions): Promise<RunningEngine> {
  const { deviceOptions, limits } = options;
  assertOptions(deviceOptions);
  const data: EngineThreadData = {
    model: options.model,
    deviceOptions,
    targetItlMs: limits.targetItlMs,
    prefixCaching: limits.prefixCaching,
    driverModule: options.driverModule,
    progress: options.progress ?? new BigInt64Array(new SharedArrayBuffer(16)),
    commands: createRing(Math.max(minCommandWords, 4 * deviceOptions.maxModelLen)),
    events: createRing(eventWords),
    stats: createSharedStats(),
  };
  const thread = new ThreadHandle(data, (plan) => options.onPlan?.(plan));
  const ready = await thread.ready;
  return new EngineClient(thread, data, ready, limits);
}

class EngineClient implements RunningEngine, Engine {
  readonly engine: Engine = this;
  readonly plan: MemoryPlan;
  readonly info: DeviceInfo;
  readonly maxModelLen: number;
  readonly #thread: ThreadHandle;
  readonly #generations: GenerationTable;
  readonly #encoder = new CommandEncoder();
  readonly #commands: RingWriter;
  /** What `generate` leaves free: an abort for every generation, and the shutdown. */
  readonly #reservedWords: number;
  readonly #events: RingReader;
  readonly #stats: SharedStats;
  readonly #seed = crypto.getRandomValues(new Int32Array(2));
  readonly #fatalListeners: ((error: EngineError) => void)[] = [];
  #state: "serving" | "draining" | "ended" = "serving";
  #fatal: EngineError | undefined;

  constructor(
    thread: ThreadHandle,
    data: EngineThreadData,
    ready: ReadyMessage,
    limits: EngineLimits,
  ) {
    const { maxRows } = data.deviceOptions;
    this.plan = ready.plan;
    this.info = ready.info;
    this.maxModelLen = ready.maxModelLen;
    this.#thread = thread;
    this.#generations = new GenerationTable({ maxRows, ...limits });
    this.#reservedWords = shortCommandWords * (maxRows + limits.maxWaitingRequests + 1);
    this.#commands = new RingWriter(data.commands);
    this.#events = new RingReader(data.events);
    this.#stats = data.stats;
    void this.#pumpEvents();
    void thread.ended.then((error) => this.#onThreadEnded(error));
  }

  generate(request: GenerationRequest): Generation {
    this.#assertServing();
    const promptLength = request.promptTokenIds.length;
    this.#assertLength(promptLength, request.maxTokens);
    this.#generations.assertRoom(promptLength, readStats(this.#stats).waitingCount);
    const index = this.#generations.nextIndex;
    const link = hashSalt(request.cacheSalt, this.#seed);
    const length = this.#encoder.generate(index, request, link);
    if (!this.#commands.push(this.#encoder.words, length, this.#reservedWords)) {
      throw new EngineError(
        "QUEUE_FULL",
        `${length} words of a request exceed the ${this.#commands.freeWords} of the engine's inbox`,
        { remedy: "Retry after a pause." },
      );
    }
    this.#commands.publish();
    return this.#generations.open(promptLength, (aborted) => {
      this.#tell(commandKinds.abort, aborted);
    });
  }

  stats(): EngineStats {
    return readStats(this.#stats);
  }

  async drain(): Promise<void> {
    if (this.#state === "serving") this.#state = "draining";
    await this.#generations.idle();
  }

  async close(timeoutMs = closeTimeoutMs): Promise<void> {
    if (this.#state !== "ended") {
      this.#state = "ended";
      this.#thread.expectEnd();
      this.#tell(commandKinds.shutdown, 0);
    }
    const timer = setTimeout(() => void this.#thread.terminate(), timeoutMs);
    await this.#thread.ended;
    clearTimeout(timer);
  }

  onFatal(listener: (error: EngineError) => void): void {
    if (this.#fatal === undefined) this.#fatalListeners.push(listener);
    else listener(this.#fatal);
  }

  async #pumpEvents(): Promise<void> {
    while (this.#fatal === undefined) {
      this.#events.armSignal();
      this.#drainEvents();
      await this.#events.waitAsync();
    }
  }

  #drainEvents(): void {
    for (let length = this.#events.read(); length !== -1; length = this.#events.read()) {
      decodeEvent(this.#events.record, length, this.#generations);
    }
    this.#events.release();
  }

  #onThreadEnded(error: EngineError | undefined): void {
    this.#state = "ended";
    this.#drainEvents();
    this.#generations.endAll(error === undefined ? "abort" : "error");
    this.#fatal = error;
    this.#events.wake();
    if (error !== undefined) for (const tell of this.#fatalListeners.splice(0)) tell(error);
  }

  /** Room for it was reserved by every `generate`. */
  #tell(kind: number, index: number): void {
    const length = this.#encoder.short(kind, index);
    if (this.#commands.push(this.#encoder.words, length)) this.#commands.publish();
    else throw new Error(`the engine's inbox has no room for command ${kind}`);
  }

  #assertServing(): void {
    if (this.#state === "serving") return;
    if (this.#state === "draining") {
      throw new EngineError("DRAINING", "the engine takes no new requests: it is shutting down", {
        remedy: "Send the request to another replica.",
      });
    }
    const cause = this.#fatal;
    throw new EngineError("NOT_READY", "the engine has ended", {
      remedy: "Send the request to another replica, or start the process again.",
      ...(cause === undefined ? {} : { cause }),
    });
  }

  #assertLength(promptLength: number, maxTokens: number): void {
    if (promptLength < 1 || maxTokens < 1) {
      throw new EngineError(
        "REQUEST_INVALID",
        `${promptLength} prompt tokens and ${maxTokens} to generate: each must be at least 1`,
        { remedy: "Send a prompt, and ask for a token." },
      );
    }
    if (promptLength + maxTokens <= this.maxModelLen) return;
    throw new EngineError(
      "CONTEXT_LENGTH_EXCEEDED",
      `${promptLength} prompt tokens and ${maxTokens} to generate exceed ${this.maxModelLen}`,
      { remedy: "Shorten the prompt or ask for fewer tokens.", param: "max_tokens" },
    );
  }
}

function assertOptions(options: DeviceOptions): void {
  const { maxRows, maxBatchedTokens } = options;
  if (maxBatchedTokens >= maxRows) return;
  throw new EngineError(
    "CONFIG_INVALID",
    `${maxBatchedTokens} tokens per step cannot hold one token of each of ${maxRows} requests`,
    { remedy: "Raise the tokens per step or lower the requests that may be running." },
  );
}
