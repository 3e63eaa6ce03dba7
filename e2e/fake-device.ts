/**
 * A device that is arithmetic: for tests of time, overload and the scheduler.
 *
 * It keeps the KV cache as token ids in slots and samples from a hash of all tokens that a row
 * reaches through its block table, so a wrong table, a block reused too early or a prefix shared
 * wrongly changes the output. It also refuses, with an Error, what the scheduler must never do.
 *
 * As the engine's driver it takes its settings from the query of its URL, such as
 * `fake-device.ts?stepMs=5&failAtStep=100`.
 */
import type {
  Device,
  DeviceDriver,
  DeviceInfo,
  DeviceOptions,
  LoadProgress,
  MemoryPlan,
  RowSampling,
  StepBatch,
  StepResult,
} from "../engine/device.ts";
import { chunkSamples, lastSampled, maxTopLogprobs } from "../engine/device.ts";
import { EngineError } from "../engine/errors.ts";
import type { Model, WeightSlice } from "../engine/models/model-spec.ts";

export interface FakeDeviceSettings {
  readonly vocabSize: number;
  /** A step takes `stepMs`, and this much more per token that it prefills or decodes. */
  readonly stepMs: number;
  readonly prefillTokenMs: number;
  readonly decodeTokenMs: number;
  /** Real milliseconds per millisecond of a step; 0 reports times without taking them. */
  readonly timeScale: number;
  /** Spins instead of sleeping while a step takes its time. */
  readonly busy: boolean;
  readonly loadMs: number;
  /** The step, counted from 1, that fails, never ends or ends its thread; 0 for none. */
  readonly failAtStep: number;
  readonly hangAtStep: number;
  readonly exitAtStep: number;
  /** `open` fails. */
  readonly failOpen: boolean;
}

export const defaultFakeSettings: FakeDeviceSettings = {
  vocabSize: 1000,
  stepMs: 0,
  prefillTokenMs: 0,
  decodeTokenMs: 0,
  timeScale: 1,
  busy: false,
  loadMs: 0,
  failAtStep: 0,
  hangAtStep: 0,
  exitAtStep: 0,
  failOpen: false,
};

/** A model for those who must pass one: the fake device looks at none. */
export const fakeModel: Model = {
  spec: {
    architecture: "Fake",
    vocabSize: defaultFakeSettings.vocabSize,
    hiddenSize: 1,
    headCount: 1,
    kvHeadCount: 1,
    headDim: 1,
    ffnSize: 1,
    contextLength: 1 << 20,
    normEpsilon: 1e-5,
    normOffset: 0,
    activation: "silu",
    ropeLayout: "halves",
    ropes: [],
    layers: [],
    embeddingScale: 1,
    attentionScale: 1,
    residualScale: 1,
    logitScale: 1,
    attentionSoftcap: 0,
    logitSoftcap: 0,
  },
  weights: { embedding: fakeSlice(), finalNorm: fakeSlice(), layers: [] },
  files: [],
};

function fakeSlice(): WeightSlice {
  return { name: "fake", type: "F32", rows: 0, columns: 0, file: 0, offset: 0, byteLength: 0 };
}

const defaultBlockCount = 1024;
const kvBlockBytes = 4096;
const weightBytes = 1 << 20;

export const driver: DeviceDriver = {
  plan(_model: Model, options: DeviceOptions): MemoryPlan {
    return planOf(options);
  },
  open(_model: Model, options: DeviceOptions, progress: LoadProgress): Device {
    const settings = settingsOf(new URL(import.meta.url).searchParams);
    progress[1] = BigInt(weightBytes);
    sleep(settings.loadMs / 2);
    progress[0] = BigInt(weightBytes / 2);
    sleep(settings.loadMs / 2);
    if (settings.failOpen) {
      throw new EngineError("DEVICE_OUT_OF_MEMORY", "the fake device has no memory", {
        remedy: "Leave failOpen out.",
      });
    }
    progress[0] = BigInt(weightBytes);
    return new FakeDevice(options, settings);
  },
};

interface FakeRow {
  readonly sampling: RowSampling;
  readonly promptLength: number;
  readonly blocks: number[];
  lastToken: number;
  /** Step that sampled `lastToken`. */
  lastTokenStep: number;
}

interface FakeStep {
  readonly number: number;
  readonly doneAtMs: number;
  readonly stepMs: number;
  readonly samples: readonly FakeSample[];
  /** Block → row that touches it, or -1 for several. */
  readonly touched: ReadonlyMap<number, number>;
  readonly rows: ReadonlySet<number>;
}

interface FakeSample {
  readonly tokenId: number;
  readonly logprob: number;
  readonly topLogprobs: number;
}

export class FakeDevice implements Device {
  readonly info: DeviceInfo = { backend: "cpu", description: "arithmetic" };
  readonly plan: MemoryPlan;
  readonly #settings: FakeDeviceSettings;
  readonly #options: DeviceOptions;
  /** `[blocks * blockSize]` token id + 1; 0 where nothing was ever written. */
  readonly #slots: Int32Array;
  readonly #rows = new Map<number, FakeRow>();
  readonly #inFlight: FakeStep[] = [];
  #stepCount = 0;
  #busyUntilMs = 0;

  constructor(options: DeviceOptions, settings: FakeDeviceSettings = defaultFakeSettings) {
    this.#settings = settings;
    this.#options = options;
    this.plan = planOf(options);
    this.#slots = new Int32Array(this.plan.blockCount * options.blockSize);
  }

  openRow(row: number, sampling: RowSampling, tokenIds: Int32Array, promptLength: number): void {
    check(row >= 0 && row < this.#options.maxRows, `row ${row} is opened`);
    check(promptLength <= tokenIds.length, `row ${row} is opened with part of its prompt`);
    for (const step of this.#inFlight) {
      check(!step.rows.has(row), `row ${row} is opened while step ${step.number} uses it`);
    }
    const state = { sampling, promptLength, blocks: [], lastToken: -1, lastTokenStep: 0 };
    this.#rows.set(row, state);
  }

  setBlocks(row: number, firstIndex: number, blocks: Int32Array): void {
    const table = this.#rowAt(row).blocks;
    check(firstIndex <= table.length, `row ${row} gets block ${firstIndex} of ${table.length}`);
    for (let i = 0; i < blocks.length; i++) table[firstIndex + i] = blocks[i] as number;
  }

  submit(batch: StepBatch): void {
    check(this.#inFlight.length < 2, "a third step is submitted");
    check(batch.chunkCount > 0, "an empty step is submitted");
    check(batch.tokenCount <= this.#options.maxBatchedTokens, `${batch.tokenCount} tokens a step`);
    this.#stepCount += 1;
    const touched = new Map<number, number>();
    const rows = new Set<number>();
    const samples: FakeSample[] = [];
    let firstToken = 0;
    for (let chunk = 0; chunk < batch.chunkCount; chunk++) {
      const row = batch.rows[chunk] as number;
      check(!rows.has(row), `row ${row} has two chunks in one step`);
      rows.add(row);
      const count = batch.counts[chunk] as number;
      this.#write(batch, chunk, firstToken, touched);
      if (batch.flags[chunk] === chunkSamples) {
        samples.push(this.#sample(row, (batch.starts[chunk] as number) + count));
      }
      firstToken += count;
    }
    check(firstToken === batch.tokenCount, `${firstToken} tokens in chunks of ${batch.tokenCount}`);
    const stepMs = this.#timeOf(batch);
    this.#busyUntilMs =
      Math.max(this.#busyUntilMs, performance.now()) + stepMs * this.#settings.timeScale;
    const doneAtMs = this.#busyUntilMs;
    this.#inFlight.push({ number: this.#stepCount, doneAtMs, stepMs, samples, touched, rows });
  }

  wait(): StepResult {
    const step = this.#inFlight.shift();
    if (step === undefined) throw new Error("wait is called while no step is in flight");
    this.#misbehave(step.number);
    if (this.#settings.busy) spinUntil(step.doneAtMs);
    else sleep(step.doneAtMs - performance.now());
    const { samples } = step;
    const result = {
      sampledCount: samples.length,
      tokenIds: Int32Array.from(samples, (sample) => sample.tokenId),
      logprobs: Float32Array.from(samples, (sample) => sample.logprob),
      topTokenIds: new Int32Array(samples.length * maxTopLogprobs),
      topLogprobs: new Float32Array(samples.length * maxTopLogprobs),
      stepMs: step.stepMs,
    };
    for (const [i, sample] of samples.entries()) {
      for (let rank = 0; rank < sample.topLogprobs; rank++) {
        const place = i * maxTopLogprobs + rank;
        result.topTokenIds[place] = (sample.tokenId + rank) % this.#settings.vocabSize;
        result.topLogprobs[place] = sample.logprob - rank;
      }
    }
    return result;
  }

  close(): void {
    check(this.#inFlight.length === 0, "the device is closed while steps are in flight");
  }

  #rowAt(row: number): FakeRow {
    const state = this.#rows.get(row);
    if (state === undefined) throw new Error(`row ${row} is used without being opened`);
    return state;
  }

  #slotOf(row: number, position: number): number {
    const { blockSize } = this.#options;
    const block = this.#rowAt(row).blocks[Math.floor(position / blockSize)];
    if (block === undefined) throw new Error(`row ${row} has no block for position ${position}`);
    return block * blockSize + (position % blockSize);
  }

  /** Writes a chunk's tokens, and notes the blocks it touches. */
  #write(batch: StepBatch, chunk: number, firstToken: number, touched: Map<number, number>): void {
    const row = batch.rows[chunk] as number;
    const start = batch.starts[chunk] as number;
    const count = batch.counts[chunk] as number;
    const { blockSize } = this.#options;
    for (let i = 0; i < count; i++) {
      const slot = this.#slotOf(row, start + i);
      this.#checkUnused(Math.floor(slot / blockSize), row);
      this.#slots[slot] = 1 + this.#resolve(row, batch.tokenIds[firstToken + i] as number);
    }
    for (let position = 0; position < start + count; position += blockSize) {
      const block = Math.floor(this.#slotOf(row, position) / blockSize);
      touched.set(block, (touched.get(block) ?? row) === row ? row : -1);
    }
  }

  #resolve(row: number, tokenId: number): number {
    if (tokenId !== lastSampled) return tokenId;
    const state = this.#rowAt(row);
    check(state.lastTokenStep > 0, `row ${row} continues without a token`);
    return state.lastToken;
  }

  /** A block that a step in flight touches for another row may be read, but not written. */
  #checkUnused(block: number, row: number): void {
    for (const step of this.#inFlight) {
      const user = step.touched.get(block);
      check(
        user === undefined || user === row,
        `block ${block} is written for row ${row} while step ${step.number} uses it`,
      );
    }
  }

  /** Hashes all tokens of the row, as attention would read them. */
  #sample(row: number, length: number): FakeSample {
    const state = this.#rowAt(row);
    const { sampling } = state;
    let hash = Number(BigInt.asIntN(32, sampling.seed)) ^ 0x2545f491;
    for (let position = 0; position < length; position++) {
      const token = this.#slots[this.#slotOf(row, position)] as number;
      check(token > 0, `row ${row} reads position ${position}, which was never written`);
      hash = Math.imul(hash ^ token, 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    let tokenId = (hash >>> 0) % this.#settings.vocabSize;
    if (length - state.promptLength < sampling.minTokens) {
      while (sampling.stopTokenIds.includes(tokenId)) {
        tokenId = (tokenId + 1) % this.#settings.vocabSize;
      }
    }
    state.lastToken = tokenId;
    state.lastTokenStep = this.#stepCount;
    const topLogprobs = Math.max(0, sampling.topLogprobs);
    return { tokenId, logprob: -((hash >>> 8) & 0xff) / 64, topLogprobs };
  }

  #timeOf(batch: StepBatch): number {
    const { stepMs, prefillTokenMs, decodeTokenMs } = this.#settings;
    let milliseconds = stepMs;
    for (let chunk = 0; chunk < batch.chunkCount; chunk++) {
      const { promptLength } = this.#rowAt(batch.rows[chunk] as number);
      const decodes = (batch.starts[chunk] as number) >= promptLength;
      milliseconds += (batch.counts[chunk] as number) * (decodes ? decodeTokenMs : prefillTokenMs);
    }
    return milliseconds;
  }

  #misbehave(step: number): void {
    if (step === this.#settings.hangAtStep) sleep(Number.POSITIVE_INFINITY);
    if (step === this.#settings.exitAtStep) process.exit(3);
    if (step !== this.#settings.failAtStep) return;
    throw new EngineError("DEVICE_FAILED", `step ${step} failed on purpose`, {
      remedy: "Leave failAtStep out.",
    });
  }
}

function planOf(options: DeviceOptions): MemoryPlan {
  const blockCount = options.blockCount === 0 ? defaultBlockCount : options.blockCount;
  const totalBytes = weightBytes + blockCount * kvBlockBytes;
  return {
    weightBytes,
    workspaceBytes: 0,
    samplerBytes: 0,
    kvBlockBytes,
    blockCount,
    totalBytes,
    availableBytes: totalBytes,
  };
}

function settingsOf(query: URLSearchParams): FakeDeviceSettings {
  const settings: Record<string, number | boolean> = { ...defaultFakeSettings };
  for (const [name, value] of query) {
    check(name in settings, `the fake device has no setting ${name}`);
    settings[name] = typeof settings[name] === "boolean" ? value === "true" : Number(value);
  }
  return settings as unknown as FakeDeviceSettings;
}

const sleepWord = new Int32Array(new SharedArrayBuffer(4));

function sleep(milliseconds: number): void {
  if (milliseconds > 0) Atomics.wait(sleepWord, 0, 0, milliseconds);
}

function spinUntil(timeMs: number): void {
  while (performance.now() < timeMs);
}

function check(holds: boolean, message: string): void {
  if (!holds) throw new Error(`fake device: ${message}`);
}
