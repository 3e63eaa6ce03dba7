import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { findGpus, GpuPool } from "./gpus.ts";

describe("GpuPool", () => {
  it("gives whole GPUs to one pod at a time, all it asks for or none", () => {
    const pool = new GpuPool(["0", "1", "2"]);

    assert.deepEqual(pool.take(2), ["0", "1"]);
    assert.equal(pool.take(2), "2 GPU asked for, 1 of 3 on this machine free");
    pool.give(["0", "1"]);
    assert.deepEqual(pool.take(3), ["2", "0", "1"]);
    assert.deepEqual(pool.take(0), []);
  });
});

describe("findGpus", () => {
  it("follows what CUDA was told to show", async () => {
    assert.deepEqual(await findGpus("3,GPU-abc"), ["3", "GPU-abc"]);
    assert.deepEqual(await findGpus(""), []);
  });
});
