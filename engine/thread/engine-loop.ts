import type { Device } from "../device.ts";
import type { EngineStats, FinishReason } from "../generation.ts";
import type { Request } from "../scheduler/request.ts";
import type { Scheduler } from "../scheduler/scheduler.ts";
import { type StepPlan, submitPlan } from "../scheduler/step-plan.ts";
import { commandKinds, decodeGenerate, EventEncoder } from "./ring-messages.ts";
import type { RingReader, RingWriter } from "./rings.ts";
import { type SharedStats, TokenRate, writeStats } from "./shared-stats.ts";

interface EngineLoopParts {
  readonly device: Device;
  readonly blockSize: number;
  readonly scheduler: Scheduler;
  readonly commands: RingReader;
  readonly events: RingWriter;
  readonly stats: SharedStats;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

const idleCheckMs = 1000;
const rateMemoryMs = 5000;

/**
 * The engine's thread: commands in, steps through the device, tokens out. It blocks in two places
 * only, in `Device.wait` while a step runs and on the command ring while there is nothing to do.
 */
export class EngineLoop {
  readonly #device: Device;
  readonly #blockSize: number;
  readonly #scheduler: Scheduler;
  readonly #commands: RingReader;
  readonly #events: RingWriter;
  readonly #encoder = new EventEncoder();
  readonly #stats: SharedStats;
  readonly #now: () => number;
  readonly #prefillRate = new TokenRate(rateMemoryMs);
  readonly #decodeRate = new TokenRate(rateMemoryMs);
  #stepCount = 0;
  #stepMs = 0;
  #stopping = false;
  #unpublished = false;

  constructor(parts: EngineLoopParts) {
    this.#device = parts.device;
    this.#blockSize = parts.blockSize;
    this.#scheduler = parts.scheduler;
    this.#commands = parts.commands;
    this.#events = parts.events;
    this.#stats = parts.stats;
    this.#now = parts.now;
    this.#publish();
  }

  /** Runs until a shutdown command has come and the steps in flight are done. */
  run(): void {
    for (;;) {
      if (this.step()) continue;
      if (this.#stopping) return;
      if (!this.#commands.wait(idleCheckMs)) this.#scheduler.assertConsistent();
    }
  }

  /**
   * One time round: takes commands, keeps the device one step ahead, and publishes what the step
   * before it sampled.
   *
   * @returns false when there is nothing to do until a command comes
   */
  step(): boolean {
    this.#drainCommands();
    const plan = this.#scheduler.schedule();
    if (plan !== undefined) this.#submit(plan);
    const inFlight = this.#scheduler.stepsInFlight;
    if (inFlight === 2 || (plan === undefined && inFlight === 1)) this.#commit();
    this.#publish();
    return inFlight > 0;
  }

  #drainCommands(): void {
    this.#commands.armSignal();
    while (this.#commands.read() !== -1) {
      const words = this.#commands.record;
      if (words[0] === commandKinds.generate) this.#scheduler.enqueue(decodeGenerate(words));
      else if (words[0] === commandKinds.abort) this.#abort(words[1] as number);
      else this.#shutDown();
    }
    this.#commands.release();
  }

  #submit(plan: StepPlan): void {
    submitPlan(plan, this.#scheduler.kv.rows, this.#device);
    for (const request of plan.opened) {
      this.#emit(this.#encoder.admitted(request.index, request.cachedTokenCount));
    }
  }

  #commit(): void {
    const result = this.#device.wait();
    const { prefillTokens, decodeRows } = this.#scheduler.oldestLoad;
    this.#prefillRate.observe(prefillTokens, result.stepMs);
    this.#decodeRate.observe(decodeRows, result.stepMs);
    this.#stepCount += 1;
    this.#stepMs += result.stepMs;
    this.#scheduler.commit(result, {
      onToken: (request, sampleIndex, finishReason) => {
        const { topLogprobs } = request.sampling;
        this.#emit(
          this.#encoder.token(request.index, result, sampleIndex, topLogprobs, finishReason),
        );
      },
    });
  }

  #abort(index: number): void {
    const request = this.#scheduler.abort(index);
    if (request !== undefined) this.#end(request, "abort");
  }

  #shutDown(): void {
    this.#stopping = true;
    for (const request of this.#scheduler.abortAll()) this.#end(request, "abort");
  }

  #end(request: Request, finishReason: FinishReason): void {
    this.#emit(this.#encoder.ended(request.index, finishReason));
  }

  /**
   * Queues an event. The main thread always empties the ring into the buffers of its generations,
   * so a full ring means that it has stood still for as long as the ring is deep: then the engine
   * waits for it, since nobody could be served meanwhile.
   */
  #emit(length: number): void {
    while (!this.#events.push(this.#encoder.words, length)) {
      this.#events.publish();
      this.#events.waitForRoom(idleCheckMs);
      writeStats(this.#stats, this.#readStats());
    }
    this.#unpublished = true;
  }

  /** One wake-up for all events of a time round. */
  #publish(): void {
    writeStats(this.#stats, this.#readStats());
    if (!this.#unpublished) return;
    this.#unpublished = false;
    this.#events.publish();
  }

  #readStats(): EngineStats {
    const scheduler = this.#scheduler;
    const { pool } = scheduler.kv;
    return {
      ...scheduler.counters,
      stepCount: this.#stepCount,
      stepsInFlight: scheduler.stepsInFlight,
      heartbeatMs: this.#now(),
      runningCount: scheduler.runningCount,
      waitingCount: scheduler.waitingCount,
      waitingPromptTokens: scheduler.waitingPromptTokens,
      blockCount: pool.blockCount,
      blockSize: this.#blockSize,
      freeBlockCount: pool.freeCount,
      cachedBlockCount: pool.idleCount,
      heldBlockCount: pool.heldCount,
      stepMs: this.#stepMs,
      prefillTokensPerSecond: this.#prefillRate.tokensPerSecond,
      decodeTokensPerSecond: this.#decodeRate.tokensPerSecond,
    };
  }
}
