import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { defaultFakeSettings, FakeDevice } from "../../e2e/fake-device.ts";
import { ampleLimits, aRequestInit, tokensAlone } from "../../e2e/scheduler-run.ts";
import { deviceOptions } from "../../e2e/started-engine.ts";
import type { Device, RowSampling, StepBatch, StepResult } from "../device.ts";
import { Scheduler } from "../scheduler/scheduler.ts";
import { EngineLoop } from "./engine-loop.ts";
import { CommandEncoder, commandKinds, decodeEvent, eventKinds } from "./ring-messages.ts";
import { createRing, RingReader, RingWriter } from "./rings.ts";
import { createSharedStats, readStats } from "./shared-stats.ts";

describe("EngineLoop.step", () => {
  it("keeps the device one step ahead, and takes the last step in when nothing follows", () => {
    const { loop, calls, generate } = anEngine();
    generate(0, 4);

    while (loop.step());

    assert.deepEqual(calls, [
      ...["open", "submit", "submit", "wait", "submit", "wait", "submit", "wait", "wait"],
    ]);
  });

  it("publishes the tokens of a step when it has them", () => {
    const { loop, generate, hear } = anEngine();
    generate(0, 4);
    const heard: number[] = [];
    while (loop.step()) heard.push(hear().length);

    const tokens = hear();

    assert.deepEqual(heard, [0, 1, 2, 3, 4]);
    assert.deepEqual(tokens, tokensAlone({ maxTokens: 4 }));
  });

  it("says when it has nothing to do, and goes on when a command comes", () => {
    const { loop, generate, hear } = anEngine();
    assert.equal(loop.step(), false);
    generate(0, 1);

    assert.equal(loop.step(), true);
    while (loop.step());

    assert.equal(hear().length, 1);
  });

  it("reuses its inbox", () => {
    const { loop, generate } = anEngine();
    for (let i = 0; i < 200; i++) {
      generate(i, 1);
      while (loop.step());
    }
  });

  it("makes room for a step's events that exceed the ring", async () => {
    const { loop, generate, events } = anEngine({ eventWords: 32 });
    const reader = new Worker(readerSource, { eval: true, workerData: events });
    for (let i = 0; i < 16; i++) generate(i, 2);

    while (loop.step());

    const [tokenCount] = await once(reader, "message");
    assert.equal(tokenCount, 32);
  });

  it("shows its state after every step", () => {
    const { loop, generate, stats, clock } = anEngine();
    generate(0, 4);
    clock.ms = 1234;
    loop.step();

    const { heartbeatMs, stepsInFlight, runningCount, heldBlockCount, stepCount } = stats();
    assert.deepEqual(
      { heartbeatMs, stepsInFlight, runningCount, heldBlockCount, stepCount },
      { heartbeatMs: 1234, stepsInFlight: 1, runningCount: 1, heldBlockCount: 2, stepCount: 0 },
    );
  });
});

describe("EngineLoop.run", () => {
  it("ends on shutdown when the steps in flight are done", () => {
    const { loop, calls, generate, shutDown } = anEngine();
    generate(0, 100);
    loop.step();
    shutDown();

    loop.run();

    assert.deepEqual(calls, ["open", "submit", "wait"]);
  });

  it("notices within an idle second that a block was lost", () => {
    const { loop, scheduler } = anEngine();
    scheduler.kv.pool.allocate();

    assert.throws(() => loop.run(), /block 0 has 1 references and 0 holders/);
  });
});

/** Counts tokens until it has 32 of them. */
const readerSource = `
  const { parentPort, workerData } = require("node:worker_threads");
  import(${JSON.stringify(new URL("./rings.ts", import.meta.url).href)}).then(({ RingReader }) => {
    const reader = new RingReader(workerData);
    for (let count = 0; count < 32; ) {
      reader.armSignal();
      for (let length = reader.read(); length !== -1; length = reader.read()) {
        if (reader.record[0] === ${eventKinds.token}) count += 1;
      }
      reader.release();
      if (count === 32) parentPort.postMessage(count);
      else reader.wait(1000);
    }
  });
`;

function anEngine({ eventWords = 4096 } = {}) {
  const calls: string[] = [];
  const commands = createRing(4096);
  const events = createRing(eventWords);
  const sharedStats = createSharedStats();
  const scheduler = new Scheduler(ampleLimits);
  const clock = { ms: 0 };
  const loop = new EngineLoop({
    device: new LoggingDevice(calls),
    blockSize: ampleLimits.blockSize,
    scheduler,
    commands: new RingReader(commands),
    events: new RingWriter(events),
    stats: sharedStats,
    now: () => clock.ms,
  });
  const encoder = new CommandEncoder();
  const writer = new RingWriter(commands);
  const send = (length: number): void => {
    assert.ok(writer.push(encoder.words, length));
    writer.publish();
  };
  const tokens: number[] = [];
  const reader = new RingReader(events);
  return {
    ...{ calls, clock, events, loop, scheduler },
    generate: (index: number, maxTokens: number): void => {
      const { saltLink, ...init } = aRequestInit({ maxTokens });
      send(encoder.generate(index, { ...init, cacheSalt: "" }, saltLink));
    },
    shutDown: (): void => send(encoder.short(commandKinds.shutdown, 0)),
    stats: () => readStats(sharedStats),
    /** All tokens published so far. */
    hear: (): number[] => {
      for (let length = reader.read(); length !== -1; length = reader.read()) {
        decodeEvent(reader.record, length, {
          onAdmitted: () => {},
          onToken: (_, tokenId) => tokens.push(tokenId),
          onEnded: () => {},
        });
      }
      return [...tokens];
    },
  };
}

class LoggingDevice implements Device {
  readonly #device = new FakeDevice(
    { ...deviceOptions, ...ampleLimits },
    { ...defaultFakeSettings, timeScale: 0 },
  );
  readonly info = this.#device.info;
  readonly plan = this.#device.plan;
  readonly #calls: string[];

  constructor(calls: string[]) {
    this.#calls = calls;
  }

  openRow(row: number, sampling: RowSampling, tokenIds: Int32Array, promptLength: number): void {
    this.#calls.push("open");
    this.#device.openRow(row, sampling, tokenIds, promptLength);
  }

  setBlocks(row: number, firstIndex: number, blocks: Int32Array): void {
    this.#device.setBlocks(row, firstIndex, blocks);
  }

  submit(batch: StepBatch): void {
    this.#calls.push("submit");
    this.#device.submit(batch);
  }

  wait(): StepResult {
    this.#calls.push("wait");
    return this.#device.wait();
  }

  close(): void {
    this.#device.close();
  }
}
