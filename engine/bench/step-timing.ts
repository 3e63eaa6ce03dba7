/** Whole steps of a `Device`, timed without scheduler, threads or HTTP. */
import {
  chunkSamples,
  type Device,
  type DeviceOptions,
  greedySampling,
  lastSampled,
  type StepBatch,
} from "../device.ts";
import { cpuSeconds } from "./machine.ts";

/** Of one step. */
export interface StepTime {
  readonly seconds: number;
  /** Over all threads. */
  readonly cpuSeconds: number;
}

/**
 * Times steps on a device whose blocks are divided in two: a pool, which prefills fill one after the
 * other, and one block a row, where decodes write. The rows of a batch read different runs of the
 * pool, so keys and values come from memory as they do for different requests.
 */
export class StepTiming {
  readonly #device: Device;
  readonly #blockSize: number;
  readonly #poolBlocks: number;
  readonly #vocabSize: number;
  #filledBlocks = 0;

  constructor(device: Device, options: DeviceOptions, vocabSize: number) {
    this.#device = device;
    this.#blockSize = options.blockSize;
    this.#poolBlocks = device.plan.blockCount - options.maxRows;
    this.#vocabSize = vocabSize;
  }

  /** One prompt of `tokenCount` tokens at once, into the next blocks of the pool. */
  prefill(tokenCount: number): StepTime {
    const first = this.#filledBlocks;
    const blocks = Int32Array.from({ length: tokenCount / this.#blockSize }, (_, i) => first + i);
    this.#filledBlocks += blocks.length;
    if (this.#filledBlocks > this.#poolBlocks) {
      throw new Error(`prefills filled ${this.#filledBlocks} blocks of ${this.#poolBlocks}`);
    }
    this.#device.openRow(0, greedySampling, new Int32Array(0), 0);
    this.#device.setBlocks(0, 0, blocks);
    const batch = batchOf(1, 0, tokenCount, (i) => 2 + ((i * 7919) % (this.#vocabSize - 2)));
    return timed(1, () => {
      this.#device.submit(batch);
      this.#device.wait();
    });
  }

  /**
   * `stepCount` steps of one token for each of `rows` requests with `context` tokens behind them,
   * one step submitted ahead as the engine does. Takes what `prefill` has left in the pool.
   */
  decode(rows: number, context: number, stepCount: number): StepTime {
    const contextBlocks = context / this.#blockSize;
    for (let row = 0; row < rows; row++) {
      this.#device.openRow(row, greedySampling, new Int32Array(0), 0);
      this.#device.setBlocks(row, 0, this.#poolRun(row * contextBlocks, contextBlocks));
      this.#device.setBlocks(row, contextBlocks, Int32Array.of(this.#poolBlocks + row));
    }
    this.#device.submit(batchOf(rows, context, 1, () => 2));
    const batch = batchOf(rows, context, 1, () => lastSampled);
    this.#device.submit(batch);
    this.#device.wait();
    const time = timed(stepCount, () => {
      for (let step = 0; step < stepCount; step++) {
        this.#device.submit(batch);
        this.#device.wait();
      }
    });
    this.#device.wait();
    return time;
  }

  /** Blocks that prefills have filled, from `first` on and round again. */
  #poolRun(first: number, count: number): Int32Array {
    if (count > this.#filledBlocks) {
      throw new Error(`prefills filled ${this.#filledBlocks} blocks where a row needs ${count}`);
    }
    return Int32Array.from({ length: count }, (_, i) => (first + i) % this.#filledBlocks);
  }
}

function timed(stepCount: number, run: () => void): StepTime {
  const startCpu = cpuSeconds();
  const startMs = performance.now();
  run();
  const seconds = (performance.now() - startMs) / 1e3 / stepCount;
  return { seconds, cpuSeconds: (cpuSeconds() - startCpu) / stepCount };
}

function batchOf(
  rows: number,
  start: number,
  count: number,
  tokenAt: (index: number) => number,
): StepBatch {
  return {
    chunkCount: rows,
    tokenCount: rows * count,
    rows: Int32Array.from({ length: rows }, (_, row) => row),
    starts: new Int32Array(rows).fill(start),
    counts: new Int32Array(rows).fill(count),
    flags: new Uint8Array(rows).fill(chunkSamples),
    tokenIds: Int32Array.from({ length: rows * count }, (_, i) => tokenAt(i)),
  };
}
