/**
 * A scheduler and a fake device without threads, rings or clocks: what the engine's loop does, one
 * deterministic step at a time, with every invariant checked after each.
 */
import { type DeviceOptions, greedySampling, type RowSampling } from "../engine/device.ts";
import type { FinishReason } from "../engine/generation.ts";
import type { Request, RequestInit } from "../engine/scheduler/request.ts";
import { Scheduler, type SchedulerLimits } from "../engine/scheduler/scheduler.ts";
import { type StepPlan, submitPlan } from "../engine/scheduler/step-plan.ts";
import { defaultFakeSettings, FakeDevice, type FakeDeviceSettings } from "./fake-device.ts";

export const ampleLimits: SchedulerLimits = {
  blockCount: 1024,
  blockSize: 4,
  maxRows: 16,
  maxBatchedTokens: 64,
  maxModelLen: 1024,
  targetItlMs: 0,
  prefixCaching: true,
};

/** One chunk of a step, as tests read it. */
export interface ChunkView {
  readonly index: number;
  readonly start: number;
  readonly count: number;
  readonly samples: boolean;
}

export class SchedulerRun {
  readonly scheduler: Scheduler;
  readonly tokens = new Map<number, number[]>();
  readonly finishReasons = new Map<number, FinishReason>();
  readonly requests = new Map<number, Request>();
  /** Most steps in flight at once: 1 commits each step before the next is scheduled. */
  depth = 2;
  readonly #device: FakeDevice;

  constructor(limits: Partial<SchedulerLimits> = {}, settings: Partial<FakeDeviceSettings> = {}) {
    const all = { ...ampleLimits, ...limits };
    this.scheduler = new Scheduler(all);
    const options: DeviceOptions = {
      backend: "cpu",
      tensorParallel: 1,
      threads: 1,
      cpuIsa: "auto",
      dtype: "auto",
      memoryBytes: 0,
      ...all,
    };
    this.#device = new FakeDevice(options, { ...defaultFakeSettings, timeScale: 0, ...settings });
  }

  enqueue(init: RequestInit): Request {
    const request = this.scheduler.enqueue(init);
    this.requests.set(init.index, request);
    this.tokens.set(init.index, []);
    return request;
  }

  abort(index: number): void {
    const request = this.scheduler.abort(index);
    if (request !== undefined) this.finishReasons.set(index, "abort");
    this.scheduler.assertConsistent();
  }

  /** Schedules, submits, and commits what the depth asks for. Returns the chunks, or undefined. */
  step(): readonly ChunkView[] | undefined {
    const chunks = this.schedule();
    const { stepsInFlight } = this.scheduler;
    if (stepsInFlight >= this.depth || (chunks === undefined && stepsInFlight > 0)) this.commit();
    return chunks;
  }

  schedule(): readonly ChunkView[] | undefined {
    const plan = this.scheduler.schedule();
    this.scheduler.assertConsistent();
    if (plan === undefined) return undefined;
    submitPlan(plan, this.scheduler.kv.rows, this.#device);
    return this.#chunksOf(plan);
  }

  commit(): void {
    const result = this.#device.wait();
    this.scheduler.commit(result, {
      onToken: (request, sampleIndex, finishReason) => {
        this.tokens.get(request.index)?.push(result.tokenIds[sampleIndex] as number);
        if (finishReason !== undefined) this.finishReasons.set(request.index, finishReason);
      },
    });
    this.scheduler.assertConsistent();
  }

  /** @throws Error if requests are left after `maxSteps` */
  runToEnd(maxSteps = 10_000): void {
    for (let steps = 0; this.isBusy; steps++) {
      if (steps === maxSteps) throw new Error(`requests are left after ${maxSteps} steps`);
      this.step();
    }
  }

  get isBusy(): boolean {
    const { runningCount, waitingCount, stepsInFlight } = this.scheduler;
    return runningCount + waitingCount + stepsInFlight > 0;
  }

  #chunksOf({ batch }: StepPlan): readonly ChunkView[] {
    const byRow = new Map([...this.requests.values()].map((request) => [request.row, request]));
    return Array.from({ length: batch.chunkCount }, (_, i) => ({
      index: byRow.get(batch.rows[i] as number)?.index ?? -1,
      start: batch.starts[i] as number,
      count: batch.counts[i] as number,
      samples: batch.flags[i] !== 0,
    }));
  }
}

export function aRequestInit(
  overrides: Partial<Omit<RequestInit, "sampling">> & { sampling?: Partial<RowSampling> } = {},
): RequestInit {
  const { sampling, ...rest } = overrides;
  return {
    index: 0,
    promptTokenIds: promptOf(8),
    maxTokens: 4,
    stopTokenIds: new Int32Array(0),
    priority: 0,
    saltLink: new Int32Array(2),
    ...rest,
    sampling: { ...greedySampling, ...sampling },
  };
}

/** `length` tokens from `first` on. */
export function promptOf(length: number, first = 1): Int32Array {
  return Int32Array.from({ length }, (_, i) => first + i);
}

/** The tokens that a request gets when it runs alone. */
export function tokensAlone(overrides: Parameters<typeof aRequestInit>[0] = {}): readonly number[] {
  const run = new SchedulerRun();
  const { index } = run.enqueue(aRequestInit(overrides));
  run.runToEnd();
  return run.tokens.get(index) ?? [];
}
