/** Real engine threads over the fake device, for tests of what the main thread sees. */
import assert from "node:assert/strict";
import type { DeviceOptions, LoadProgress, MemoryPlan, RowSampling } from "../engine/device.ts";
import type { Generation, GenerationRequest, GenerationUpdate } from "../engine/generation.ts";
import {
  type EngineLimits,
  type RunningEngine,
  startEngine,
} from "../engine/thread/engine-client.ts";
import { fakeModel } from "./fake-device.ts";
import { aRequestInit } from "./scheduler-run.ts";

/** The engine with methods that need no receiver. */
export function bound(running: RunningEngine): RunningEngine {
  const { engine, plan, info } = running;
  return {
    ...{ engine, plan, info },
    drain: () => running.drain(),
    close: () => running.close(),
    onFatal: (listener) => running.onFatal(listener),
  };
}

interface Cleanup {
  after(action: () => Promise<void>): void;
}

export async function startFakeEngine(
  t: Cleanup,
  {
    query = "",
    options,
    limits,
    driverModule = new URL("./fake-device.ts", import.meta.url).href,
    ...observers
  }: {
    driverModule?: string;
    progress?: LoadProgress;
    onPlan?: (plan: MemoryPlan) => void;
    query?: string;
    options?: Partial<DeviceOptions>;
    limits?: Partial<EngineLimits>;
  } = {},
): Promise<RunningEngine> {
  const running = await startEngine({
    model: fakeModel,
    deviceOptions: { ...deviceOptions, ...options },
    limits: {
      maxWaitingRequests: 1000,
      maxWaitingTokens: 1_000_000,
      targetItlMs: 0,
      prefixCaching: true,
      ...limits,
    },
    driverModule: `${driverModule}${query}`,
    ...observers,
  });
  t.after(() => running.close(1));
  return running;
}

export const deviceOptions: DeviceOptions = {
  backend: "cpu",
  tensorParallel: 1,
  threads: 1,
  cpuIsa: "auto",
  dtype: "auto",
  blockSize: 16,
  maxModelLen: 512,
  maxRows: 16,
  maxBatchedTokens: 128,
  blockCount: 256,
  memoryBytes: 0,
};

export interface Collected {
  readonly tokenIds: number[];
  readonly updates: GenerationUpdate[];
  readonly finishReason: GenerationUpdate["finishReason"];
}

export async function collect(generation: Generation): Promise<Collected> {
  const updates: GenerationUpdate[] = [];
  for await (const update of generation) updates.push(update);
  const tokenIds = updates.flatMap((update) => update.tokenIds);
  return { tokenIds, updates, finishReason: updates.at(-1)?.finishReason };
}

/** Waits for the engine thread to say so. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!holds()) {
    assert.ok(performance.now() < deadline, `timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

export async function allBlocksAreBack({ engine }: RunningEngine): Promise<void> {
  await until(() => engine.stats().heldBlockCount === 0, "blocks are held by nobody");
  const { freeBlockCount, cachedBlockCount, blockCount, runningCount, waitingCount } =
    engine.stats();
  assert.equal(freeBlockCount + cachedBlockCount, blockCount);
  assert.equal(runningCount + waitingCount, 0);
}

export function aRequest(
  overrides: Partial<Omit<GenerationRequest, "sampling">> & {
    sampling?: Partial<RowSampling>;
  } = {},
): GenerationRequest {
  const { saltLink: _, index: __, ...init } = aRequestInit(overrides);
  return { cacheSalt: "", ...init };
}
