/**
 * What the engine thread spends on a decode step of 256 requests beside the device's time, and what
 * waking the main thread costs: `node engine/scheduler/scheduler.bench.ts`. Prints percentiles.
 */
import { once } from "node:events";
import { MessageChannel, Worker } from "node:worker_threads";
import { aRequestInit, promptOf } from "../../e2e/scheduler-run.ts";
import type { Device, StepBatch, StepResult } from "../device.ts";
import { maxTopLogprobs } from "../device.ts";
import { EngineLoop } from "../thread/engine-loop.ts";
import { CommandEncoder } from "../thread/ring-messages.ts";
import { createRing, RingReader, RingWriter } from "../thread/rings.ts";
import { createSharedStats } from "../thread/shared-stats.ts";
import { Scheduler } from "./scheduler.ts";

const rowCount = 256;
const blockSize = 64;
const promptLength = 1024;
const stepCount = 2000;

/** A device that takes no time: what is left is ours. */
class InstantDevice implements Device {
  readonly info = { backend: "cpu", description: "instant" } as const;
  readonly plan = {
    ...{ weightBytes: 0, workspaceBytes: 0, samplerBytes: 0, kvBlockBytes: 0 },
    ...{ blockCount: 0, totalBytes: 0, availableBytes: 0 },
  };
  readonly #sampled: number[] = [];
  readonly #result = {
    sampledCount: 0,
    tokenIds: new Int32Array(rowCount),
    logprobs: new Float32Array(rowCount),
    topTokenIds: new Int32Array(rowCount * maxTopLogprobs),
    topLogprobs: new Float32Array(rowCount * maxTopLogprobs),
    stepMs: 8,
  };

  openRow(): void {}

  setBlocks(): void {}

  submit(batch: StepBatch): void {
    let sampled = 0;
    for (let i = 0; i < batch.chunkCount; i++) sampled += batch.flags[i] as number;
    this.#sampled.push(sampled);
  }

  wait(): StepResult {
    this.#result.sampledCount = this.#sampled.shift() ?? 0;
    return this.#result;
  }

  close(): void {}
}

function benchStep(): void {
  const commands = createRing(1 << 20);
  const events = createRing(1 << 20);
  const encoder = new CommandEncoder();
  const writer = new RingWriter(commands);
  for (let index = 0; index < rowCount; index++) {
    const { promptTokenIds, ...init } = aRequestInit({
      promptTokenIds: promptOf(promptLength, index * promptLength),
      maxTokens: stepCount + 1000,
    });
    const request = { ...init, promptTokenIds, cacheSalt: "" };
    const length = encoder.generate(index, request, init.saltLink);
    if (!writer.push(encoder.words, length)) throw new Error("the command ring is too small");
  }
  writer.publish();
  const maxModelLen = promptLength + stepCount + 1000;
  const scheduler = new Scheduler({
    blockCount: rowCount * Math.ceil(maxModelLen / blockSize) + 1000,
    blockSize,
    maxRows: rowCount,
    maxBatchedTokens: 8192,
    maxModelLen,
    targetItlMs: 50,
    prefixCaching: true,
  });
  const loop = new EngineLoop({
    device: new InstantDevice(),
    blockSize,
    scheduler,
    commands: new RingReader(commands),
    events: new RingWriter(events),
    stats: createSharedStats(),
    now: Date.now,
  });
  const reader = new RingReader(events);
  const drain = (): void => {
    while (reader.read() !== -1);
    reader.release();
  };
  while (scheduler.counters.generatedTokens < rowCount * 300) {
    loop.step();
    drain();
  }
  const microseconds: number[] = [];
  for (let i = 0; i < stepCount; i++) {
    const start = performance.now();
    loop.step();
    microseconds.push((performance.now() - start) * 1000);
    drain();
  }
  report(`step of ${scheduler.runningCount} decodes, commands to notify`, microseconds);
}

/** A thread that answers: `waitAsync` on a ring against a message port. */
async function benchWakeUp(): Promise<void> {
  const buffer = createRing(64);
  const back = createRing(64);
  const { port1, port2 } = new MessageChannel();
  const worker = new Worker(echoSource, {
    eval: true,
    workerData: { buffer, back, port: port2 },
    transferList: [port2],
  });
  await once(worker, "message");
  const writer = new RingWriter(buffer);
  const reader = new RingReader(back);
  const byRing: number[] = [];
  const byPort: number[] = [];
  for (let i = 0; i < stepCount; i++) {
    for (const [kind, times] of [
      [1, byRing],
      [2, byPort],
    ] as const) {
      reader.armSignal();
      const start = performance.now();
      writer.push(Int32Array.of(kind), 1);
      writer.publish();
      if (kind === 1) await reader.waitAsync();
      else await once(port1, "message");
      times.push((performance.now() - start) * 1000);
      if (reader.read() !== -1) reader.release();
    }
  }
  await worker.terminate();
  port1.close();
  report("there and back, Atomics.waitAsync", byRing);
  report("there and back, MessagePort", byPort);
}

const echoSource = `
  const { parentPort, workerData } = require("node:worker_threads");
  import(${JSON.stringify(new URL("../thread/rings.ts", import.meta.url).href)}).then((rings) => {
    const reader = new rings.RingReader(workerData.buffer);
    const writer = new rings.RingWriter(workerData.back);
    parentPort.postMessage("ready");
    for (;;) {
      reader.armSignal();
      if (reader.read() === -1) { reader.wait(1000); continue; }
      const kind = reader.record[0];
      reader.release();
      if (kind === 2) workerData.port.postMessage(0);
      else { writer.push(Int32Array.of(0), 1); writer.publish(); }
    }
  });
`;

function report(what: string, values: number[]): void {
  values.sort((a, b) => a - b);
  const at = (share: number): string => (values[Math.floor(values.length * share)] ?? 0).toFixed(1);
  process.stdout.write(`${what}: p50 ${at(0.5)} us, p90 ${at(0.9)} us, p99 ${at(0.99)} us\n`);
}

benchStep();
await benchWakeUp();
