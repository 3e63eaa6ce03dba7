import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { createRing, RingReader, RingWriter } from "./rings.ts";

describe("a ring", () => {
  it("hands records over in order, whatever their length", () => {
    const { reader, writer } = aRing(64);
    for (const record of [[1], [], [2, 3, 4]]) writer.push(Int32Array.from(record), record.length);
    writer.publish();

    assert.deepEqual(readAll(reader), [[1], [], [2, 3, 4]]);
    assert.equal(reader.read(), -1);
  });

  it("shows nothing before it is published", () => {
    const { reader, writer } = aRing(16);
    writer.push(Int32Array.of(1), 1);

    assert.equal(reader.read(), -1);
    writer.publish();
    assert.equal(reader.read(), 1);
  });

  it("refuses a record that does not fit, and takes it once others were released", () => {
    const { reader, writer } = aRing(16);
    assert.equal(writer.push(new Int32Array(9), 9), true);
    assert.equal(writer.push(new Int32Array(6), 6), false, "6 words and their length in 6 free");
    assert.equal(writer.push(new Int32Array(5), 5), true, "5 words and their length in 6 free");
    assert.equal(writer.freeWords, 0);
    writer.publish();

    readAll(reader);
    assert.equal(writer.push(new Int32Array(1), 1), false, "read, but not released");
    reader.release();

    assert.equal(writer.push(new Int32Array(15), 15), true);
  });

  it("keeps reserved words free", () => {
    const { writer } = aRing(16);

    assert.equal(writer.push(new Int32Array(8), 8, 8), false);
    assert.equal(writer.push(new Int32Array(7), 7, 8), true);
    assert.equal(writer.push(new Int32Array(7), 7), true, "which those who need not ask may use");
  });

  it("wraps records around its end, for ever", () => {
    const { reader, writer } = aRing(16);
    let sent = 0;
    for (let round = 0; round < 500; round++) {
      const record = Int32Array.from({ length: 1 + (round % 6) }, () => sent++);
      assert.equal(writer.push(record, record.length), true);
      writer.publish();
      assert.deepEqual(readAll(reader), [[...record]]);
      reader.release();
    }
  });

  it("counts on past 32 bits", () => {
    const buffer = createRing(16);
    const control = new Int32Array(buffer, 0, 48);
    control.fill(-6, 0, 17);
    const reader = new RingReader(buffer);
    const writer = new RingWriter(buffer);
    for (let i = 0; i < 20; i++) {
      assert.equal(writer.push(Int32Array.of(i, i + 1), 2), true);
      writer.publish();
      assert.deepEqual(readAll(reader), [[i, i + 1]]);
      reader.release();
      assert.equal(writer.freeWords, 16);
    }
  });

  it("carries records longer than the reader's buffer was", () => {
    const { reader, writer } = aRing(1024);
    const record = Int32Array.from({ length: 1000 }, (_, i) => i);
    writer.push(record, 1000);
    writer.publish();

    assert.equal(reader.read(), 1000);
    assert.deepEqual(reader.record.subarray(0, 1000), record);
  });
});

describe("waiting for a ring", () => {
  it("ends at once when something was published since the reader last looked", () => {
    const { reader, writer } = aRing(16);
    reader.armSignal();
    writer.publish();

    assert.equal(reader.wait(60_000), true);
  });

  it("ends after its time when nothing comes", () => {
    const { reader } = aRing(16);
    reader.armSignal();

    assert.equal(reader.wait(1), false);
  });

  it("for room, ends at once when the ring is empty, and after its time when it is not", () => {
    const { writer } = aRing(16);
    writer.waitForRoom(60_000);
    writer.push(new Int32Array(15), 15);
    writer.publish();

    writer.waitForRoom(1);
  });

  it("can be ended by its own side", async () => {
    const { reader } = aRing(16);
    reader.armSignal();
    const waiting = reader.waitAsync();
    reader.wake();

    await waiting;
  });
});

describe("a ring between threads", () => {
  it("loses, doubles and tears nothing, though both ends wait for each other", async () => {
    const total = 20_000;
    const buffer = createRing(64);
    const worker = new Worker(writerSource, { eval: true, workerData: { buffer, total } });
    const reader = new RingReader(buffer);
    let next = 0;
    while (next < total) {
      reader.armSignal();
      for (let length = reader.read(); length !== -1; length = reader.read()) {
        assert.equal(length, 1 + (next % 7));
        for (let i = 0; i < length; i++) assert.equal(reader.record[i], next);
        next += 1;
      }
      reader.release();
      if (next < total) await reader.waitAsync();
    }
    await worker.terminate();
  });
});

const writerSource = `
  const { workerData } = require("node:worker_threads");
  import(${JSON.stringify(new URL("./rings.ts", import.meta.url).href)}).then(({ RingWriter }) => {
    const writer = new RingWriter(workerData.buffer);
    for (let i = 0; i < workerData.total; i++) {
      const length = 1 + (i % 7);
      while (!writer.push(new Int32Array(length).fill(i), length)) {
        writer.publish();
        writer.waitForRoom(1000);
      }
    }
    writer.publish();
  });
`;

function aRing(words: number): { reader: RingReader; writer: RingWriter } {
  const buffer = createRing(words);
  return { reader: new RingReader(buffer), writer: new RingWriter(buffer) };
}

function readAll(reader: RingReader): number[][] {
  const records: number[][] = [];
  for (let length = reader.read(); length !== -1; length = reader.read()) {
    records.push([...reader.record.subarray(0, length)]);
  }
  return records;
}
