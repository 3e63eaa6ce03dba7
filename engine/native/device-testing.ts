/** What tests of a device share: options, sampling, and requests that are stepped by hand. */
import {
  chunkSamples,
  type Device,
  type DeviceOptions,
  greedySampling,
  lastSampled,
  maxTopLogprobs,
  type RowSampling,
  type StepBatch,
} from "../device.ts";
import type { Model } from "../models/model-spec.ts";
import { loadDeviceDriver } from "./load.ts";

export function someOptions(changes: Partial<DeviceOptions> = {}): DeviceOptions {
  return {
    backend: "cpu",
    tensorParallel: 1,
    threads: 2,
    cpuIsa: "auto",
    dtype: "float32",
    blockSize: 16,
    maxModelLen: 128,
    maxRows: 4,
    maxBatchedTokens: 128,
    blockCount: 32,
    memoryBytes: 0,
    ...changes,
  };
}

export function openDevice(model: Model, changes: Partial<DeviceOptions> = {}): Device {
  const progress = new BigInt64Array(new SharedArrayBuffer(16));
  return loadDeviceDriver("cpu", undefined).open(model, someOptions(changes), progress);
}

export function someSampling(changes: Partial<RowSampling> = {}): RowSampling {
  return { ...greedySampling, topLogprobs: maxTopLogprobs, ...changes };
}

export interface SampledToken {
  readonly tokenId: number;
  readonly logprob: number;
  /** Most likely first; as many as the row asked for. */
  readonly top: readonly (readonly [tokenId: number, logprob: number])[];
}

/** One chunk of a request. */
export interface TestChunk {
  readonly row: number;
  readonly start: number;
  readonly tokenIds: readonly number[];
  readonly samples: boolean;
}

export function submitChunks(device: Device, chunks: readonly TestChunk[]): void {
  const batch: StepBatch = {
    chunkCount: chunks.length,
    tokenCount: chunks.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0),
    rows: Int32Array.from(chunks, ({ row }) => row),
    starts: Int32Array.from(chunks, ({ start }) => start),
    counts: Int32Array.from(chunks, ({ tokenIds }) => tokenIds.length),
    flags: Uint8Array.from(chunks, ({ samples }) => (samples ? chunkSamples : 0)),
    tokenIds: Int32Array.from(chunks.flatMap(({ tokenIds }) => tokenIds)),
  };
  device.submit(batch);
}

/** Copies what the oldest step in flight sampled. */
export function waitForSamples(device: Device, topLogprobs = maxTopLogprobs): SampledToken[] {
  const result = device.wait();
  return Array.from({ length: result.sampledCount }, (_, i) => ({
    tokenId: element(result.tokenIds, i),
    logprob: element(result.logprobs, i),
    top: Array.from({ length: Math.max(0, topLogprobs) }, (_, rank) => {
      const place = i * maxTopLogprobs + rank;
      return [element(result.topTokenIds, place), element(result.topLogprobs, place)] as const;
    }),
  }));
}

export interface TestRequest {
  readonly row: number;
  readonly promptTokenIds: readonly number[];
  readonly sampling?: RowSampling;
  /** Tokens to generate. */
  readonly count: number;
  /** Prompt tokens per step; all at once unless given. */
  readonly chunkSize?: number;
  /** Tokens that the request had generated before it was preempted. */
  readonly generated?: readonly number[];
  /** The engine names each token itself, rather than leave it to the device. */
  readonly explicitTokens?: boolean;
}

/** Gives row `row` its own run of the device's blocks, and its sampling. */
export function openRequest(device: Device, request: TestRequest, blocksPerRow = 8): void {
  const { row, promptTokenIds, generated = [], sampling = someSampling() } = request;
  const tokenIds = Int32Array.from([...promptTokenIds, ...generated]);
  device.openRow(row, sampling, tokenIds, promptTokenIds.length);
  // Out of order, so that a mistaken identity of index and block shows.
  const blocks = Int32Array.from(
    { length: blocksPerRow },
    (_, i) => (row + 1) * blocksPerRow - 1 - i,
  );
  device.setBlocks(row, 0, blocks);
}

/** Runs requests together to their end, all of their chunks of a step in one batch. */
export function runTogether(
  device: Device,
  requests: readonly TestRequest[],
  blocksPerRow?: number,
): SampledToken[][] {
  const runs = requests.map((request) => new RequestRun(request));
  for (const request of requests) openRequest(device, request, blocksPerRow);
  for (;;) {
    const active = runs.filter((run) => !run.done);
    if (active.length === 0) return runs.map(({ sampled }) => sampled);
    const chunks = active.map((run) => run.nextChunk());
    submitChunks(device, chunks);
    const samples = waitForSamples(device);
    const sampling = active.filter((_, i) => chunks[i]?.samples === true);
    for (const [i, run] of sampling.entries()) run.take(elementOf(samples, i));
  }
}

export function runAlone(device: Device, request: TestRequest): SampledToken[] {
  return elementOf(runTogether(device, [request]), 0);
}

class RequestRun {
  readonly sampled: SampledToken[] = [];
  readonly #request: TestRequest;
  readonly #tokenIds: number[];
  #computed = 0;

  constructor(request: TestRequest) {
    this.#request = request;
    this.#tokenIds = [...request.promptTokenIds, ...(request.generated ?? [])];
  }

  get done(): boolean {
    return this.sampled.length === this.#request.count;
  }

  nextChunk(): TestChunk {
    const { row, chunkSize = this.#tokenIds.length } = this.#request;
    const start = this.#computed;
    const tokenIds = this.#tokenIds.slice(start, start + chunkSize);
    this.#computed += tokenIds.length;
    return { row, start, tokenIds, samples: this.#computed === this.#tokenIds.length };
  }

  take(token: SampledToken): void {
    this.sampled.push(token);
    this.#tokenIds.push(this.#request.explicitTokens === true ? token.tokenId : lastSampled);
  }
}

function element(values: Int32Array | Float32Array, index: number): number {
  return elementOf(values, index);
}

export function elementOf<T>(values: ArrayLike<T>, index: number): T {
  const value = values[index];
  if (value === undefined) throw new Error(`no element ${index} of ${values.length}`);
  return value;
}

export function logSoftmax(logits: ArrayLike<number>): number[] {
  const values = Array.from(logits);
  const max = Math.max(...values);
  const logSum = max + Math.log(values.reduce((sum, value) => sum + Math.exp(value - max), 0));
  return values.map((value) => value - logSum);
}

export interface ForcedStep {
  /** What the device would have said. */
  readonly tokenId: number;
  /** Log-probability of what it was forced to say, if among the reported ones. */
  readonly logprob: number | undefined;
}

/** Greedy steps along a given continuation: the device never sees its own choice. */
export function teacherForce(
  device: Device,
  promptTokenIds: readonly number[],
  continuation: readonly number[],
  blocksPerRow?: number,
): ForcedStep[] {
  openRequest(device, { row: 0, promptTokenIds, count: 0 }, blocksPerRow);
  return continuation.map((tokenId, i) => {
    const start = i === 0 ? 0 : promptTokenIds.length + i - 1;
    const tokenIds = i === 0 ? promptTokenIds : [elementOf(continuation, i - 1)];
    submitChunks(device, [{ row: 0, start, tokenIds, samples: true }]);
    const sampled = elementOf(waitForSamples(device), 0);
    const logprob = sampled.top.find(([id]) => id === tokenId)?.[1];
    return { tokenId: sampled.tokenId, logprob };
  });
}

/** How far forced steps are from a reference that knows each token's margin over the next. */
export function agreement(
  steps: readonly ForcedStep[],
  reference: {
    readonly tokenIds: readonly number[];
    readonly logprobs: readonly number[];
    readonly margins: readonly number[];
  },
) {
  const wrong = steps.flatMap(({ tokenId }, i) => (tokenId === reference.tokenIds[i] ? [] : [i]));
  const distances = steps
    .map(({ logprob = Number.NEGATIVE_INFINITY }, i) =>
      Math.abs(logprob - elementOf(reference.logprobs, i)),
    )
    .toSorted((a, b) => a - b);
  return {
    stepCount: steps.length,
    wrongCount: wrong.length,
    wrongMargins: wrong.map((i) => elementOf(reference.margins, i)),
    medianDistance: elementOf(distances, Math.floor(distances.length / 2)),
  };
}
