import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { fakeModel } from "../e2e/fake-device.ts";
import type { DeviceOptions, RowSampling } from "./device.ts";
import { type EngineLimits, type RunningEngine, startEngine } from "./engine-client.ts";
import type { Generation, GenerationRequest, GenerationUpdate } from "./generation.ts";

describe("startEngine", () => {
  it("generates through the rings", async (t) => {
    const { engine } = await start(t);

    const { tokenIds, finishReason } = await collect(engine.generate(aRequest({ maxTokens: 5 })));

    assert.equal(tokenIds.length, 5);
    assert.equal(finishReason, "length");
  });
});

interface Cleanup {
  after(action: () => Promise<void>): void;
}

async function start(
  t: Cleanup,
  {
    query = "",
    options,
    limits,
  }: {
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
    driverModule: `${new URL("../e2e/fake-device.ts", import.meta.url).href}${query}`,
  });
  t.after(() => running.close());
  return running;
}

const deviceOptions: DeviceOptions = {
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

interface Collected {
  readonly tokenIds: number[];
  readonly updates: GenerationUpdate[];
  readonly finishReason: GenerationUpdate["finishReason"];
}

async function collect(generation: Generation): Promise<Collected> {
  const updates: GenerationUpdate[] = [];
  for await (const update of generation) updates.push(update);
  const tokenIds = updates.flatMap((update) => update.tokenIds);
  return { tokenIds, updates, finishReason: updates.at(-1)?.finishReason };
}

function aRequest(
  overrides: Partial<GenerationRequest> & { sampling?: Partial<RowSampling> } = {},
): GenerationRequest {
  const { sampling, ...rest } = overrides;
  return {
    promptTokenIds: Int32Array.of(1, 2, 3),
    maxTokens: 8,
    stopTokenIds: new Int32Array(0),
    priority: 0,
    cacheSalt: "",
    ...rest,
    sampling: {
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      presencePenalty: 0,
      frequencyPenalty: 0,
      repetitionPenalty: 1,
      seed: 0n,
      topLogprobs: -1,
      minTokens: 0,
      stopTokenIds: new Int32Array(0),
      biasTokenIds: new Int32Array(0),
      biasValues: new Float32Array(0),
      ...sampling,
    },
  };
}
