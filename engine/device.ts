/**
 * The whole native surface: what runs steps. `quire_cpu.node` and `quire_cuda.node` implement it,
 * and `e2e/fake-device.ts` for tests of time and overload. Only the engine thread calls it.
 */
import type { Model } from "./models/model-spec.ts";

export interface DeviceOptions {
  readonly backend: "cpu" | "cuda";
  /** Ranks that the model is sharded over; divides the model's KV heads. */
  readonly tensorParallel: number;
  /** Compute threads of the CPU backend; 0 takes the cores that this process may use. */
  readonly threads: number;
  /** Instruction tier of the CPU backend; `auto` takes the best that the processor has. */
  readonly cpuIsa: "auto" | "ref" | "avx2" | "avx512" | "bf16" | "vnni" | "amx";
  /** `auto` is the device's fastest; `float32` keeps weights, activations and KV in float32. */
  readonly dtype: "auto" | "float32" | "bfloat16";
  /** Tokens per KV block: 16, 32 or 64. */
  readonly blockSize: number;
  /** Longest request, prompt and output together, in tokens. */
  readonly maxModelLen: number;
  /** Rows: requests that may be running at once. */
  readonly maxRows: number;
  /** Tokens that one step may compute. */
  readonly maxBatchedTokens: number;
  /** KV blocks; 0 lets the plan take what memory allows. */
  readonly blockCount: number;
  /** Bytes that the plan may use; 0 asks the machine (cgroup limit, free memory). */
  readonly memoryBytes: number;
}

/** Every byte that the device will hold, decided before the first allocation. */
export interface MemoryPlan {
  readonly weightBytes: number;
  readonly workspaceBytes: number;
  readonly samplerBytes: number;
  /** Bytes of one block over all layers and ranks. */
  readonly kvBlockBytes: number;
  readonly blockCount: number;
  readonly totalBytes: number;
  readonly availableBytes: number;
}

export interface DeviceInfo {
  readonly backend: "cpu" | "cuda";
  /** What computes, such as `bf16 (avx512_bf16), 2 threads` or the card's name. */
  readonly description: string;
}

/** How one row's tokens are drawn; the row keeps it until it is opened again. */
export interface RowSampling {
  /** 0 is greedy. */
  readonly temperature: number;
  /** 0 is off. */
  readonly topK: number;
  /** 1 is off. */
  readonly topP: number;
  /** 0 is off. */
  readonly minP: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** 1 is off. Counts prompt and output. */
  readonly repetitionPenalty: number;
  /** 64 bits; the draw for position p depends on (seed, p) alone (Philox 4x32-10). */
  readonly seed: bigint;
  /** Alternatives to report with each token, 0 to 20; -1 reports no logprob at all. */
  readonly topLogprobs: number;
  /** Tokens that may not be drawn while fewer than `minTokens` were generated. */
  readonly minTokens: number;
  readonly stopTokenIds: Int32Array;
  /** Added to the logits of `biasTokenIds`; -100 and below bans, as in OpenAI's API. */
  readonly biasTokenIds: Int32Array;
  readonly biasValues: Float32Array;
}

/** The most likely token each time, nothing reported but the token. */
export const greedySampling: RowSampling = {
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
};

/** The chunk ends where its row has something to sample. */
export const chunkSamples = 1;
/** In `tokenIds`: the token that the device sampled for this row in its step before. */
export const lastSampled = -1;

/**
 * One step, flattened over its chunks. The arrays are reused between steps: a device copies what it
 * keeps. `R` is the number of chunks, `T` the number of tokens. A row has at most one chunk a step.
 */
export interface StepBatch {
  chunkCount: number;
  tokenCount: number;
  /** `[R]` */
  readonly rows: Int32Array;
  /** `[R]` position of the chunk's first token in its request. */
  readonly starts: Int32Array;
  /** `[R]` tokens in the chunk. */
  readonly counts: Int32Array;
  /** `[R]` `chunkSamples` or 0. */
  readonly flags: Uint8Array;
  /** `[T]` token ids, chunk after chunk, or `lastSampled`. */
  readonly tokenIds: Int32Array;
}

export const maxTopLogprobs = 20;

/**
 * What one step sampled, for its `S` sampling chunks in the order of the batch. Valid until the
 * next `wait`.
 */
export interface StepResult {
  readonly sampledCount: number;
  /** `[S]` */
  readonly tokenIds: Int32Array;
  /** `[S]` log-probability of the token, before temperature and penalties. */
  readonly logprobs: Float32Array;
  /** `[S, maxTopLogprobs]` most likely first; only the row's `topLogprobs` first are set. */
  readonly topTokenIds: Int32Array;
  readonly topLogprobs: Float32Array;
  /** Time the device spent on this step, in milliseconds. */
  readonly stepMs: number;
}

export interface Device {
  readonly info: DeviceInfo;
  readonly plan: MemoryPlan;

  /**
   * Gives a row to a request: its sampling, and the tokens that penalties count. Takes effect for
   * the steps submitted later, also while one is in flight.
   *
   * @param tokenIds prompt, and what a preempted request had generated
   * @param promptLength how many of them are the prompt
   */
  openRow(row: number, sampling: RowSampling, tokenIds: Int32Array, promptLength: number): void;

  /** Sets entries of the row's block table from `firstIndex` on; for the steps submitted later. */
  setBlocks(row: number, firstIndex: number, blocks: Int32Array): void;

  /** Enqueues a step and returns at once. At most two may be in flight: wait for the older first. */
  submit(batch: StepBatch): void;

  /**
   * Blocks the calling thread until the oldest submitted step is done.
   *
   * @throws EngineError DEVICE_FAILED when the step failed; the device is then unusable
   */
  wait(): StepResult;

  close(): void;
}

/** Bytes loaded so far and in all, written by the device while `open` runs: `[done, total]`. */
export type LoadProgress = BigInt64Array<SharedArrayBuffer>;

export interface DeviceDriver {
  /** @throws EngineError DEVICE_OUT_OF_MEMORY with a table of needs against what there is */
  plan(model: Model, options: DeviceOptions): MemoryPlan;
  /** Plans, allocates once and loads; blocks the calling thread. */
  open(model: Model, options: DeviceOptions, progress: LoadProgress): Device;
}
