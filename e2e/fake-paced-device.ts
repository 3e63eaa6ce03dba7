/**
 * A device that takes a fixed time for a step and no processor: what its thread spends is the
 * engine's own. As the engine's driver it takes the time from its URL, `fake-paced-device.ts?stepMs=20`.
 */
import type {
  Device,
  DeviceDriver,
  DeviceInfo,
  DeviceOptions,
  MemoryPlan,
  StepBatch,
  StepResult,
} from "../engine/device.ts";
import { maxTopLogprobs } from "../engine/device.ts";

const firstToken = 10;
const tokenCount = 80;
const sleepWord = new Int32Array(new SharedArrayBuffer(4));

export const driver: DeviceDriver = {
  plan: (_model, options) => planOf(options),
  open: (_model, options) => {
    const stepMs = Number(new URL(import.meta.url).searchParams.get("stepMs") ?? 0);
    return new PacedDevice(options, stepMs);
  },
};

class PacedDevice implements Device {
  readonly info: DeviceInfo = { backend: "cpu", description: "paced" };
  readonly plan: MemoryPlan;
  readonly #stepMs: number;
  readonly #inFlight: { readonly sampledCount: number; readonly doneAtMs: number }[] = [];
  readonly #result;
  #busyUntilMs = 0;

  constructor(options: DeviceOptions, stepMs: number) {
    const { maxRows } = options;
    this.plan = planOf(options);
    this.#stepMs = stepMs;
    this.#result = {
      tokenIds: Int32Array.from({ length: maxRows }, (_, i) => firstToken + (i % tokenCount)),
      logprobs: new Float32Array(maxRows),
      topTokenIds: new Int32Array(maxRows * maxTopLogprobs),
      topLogprobs: new Float32Array(maxRows * maxTopLogprobs),
      stepMs,
    };
  }

  openRow(): void {}

  setBlocks(): void {}

  submit(batch: StepBatch): void {
    let sampledCount = 0;
    for (let i = 0; i < batch.chunkCount; i++) sampledCount += batch.flags[i] as number;
    this.#busyUntilMs = Math.max(this.#busyUntilMs, performance.now()) + this.#stepMs;
    this.#inFlight.push({ sampledCount, doneAtMs: this.#busyUntilMs });
  }

  wait(): StepResult {
    const step = this.#inFlight.shift();
    if (step === undefined) throw new Error("wait is called while no step is in flight");
    const restMs = step.doneAtMs - performance.now();
    if (restMs > 0) Atomics.wait(sleepWord, 0, 0, restMs);
    return { ...this.#result, sampledCount: step.sampledCount };
  }

  close(): void {}
}

function planOf({ blockCount }: DeviceOptions): MemoryPlan {
  return {
    ...{ weightBytes: 0, workspaceBytes: 0, samplerBytes: 0, kvBlockBytes: 0 },
    ...{ blockCount, totalBytes: 0, availableBytes: 0 },
  };
}
