import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { aRequest, bound, collect, startFakeEngine, until } from "../../e2e/started-engine.ts";
import type { MemoryPlan } from "../device.ts";
import { EngineError } from "../errors.ts";

describe("startEngine", () => {
  it("shows plan and progress while the device loads", async (t) => {
    const progress = new BigInt64Array(new SharedArrayBuffer(16));
    const plans: MemoryPlan[] = [];
    const starting = startFakeEngine(t, {
      query: "?loadMs=100",
      progress,
      onPlan: (plan) => plans.push(plan),
    });
    await until(() => progress[0] === 0n && progress[1] === 1048576n, "loading has begun");
    await until(() => progress[0] === 524288n, "half is loaded");
    assert.equal(plans[0]?.blockCount, 256);

    const { info, plan } = await starting;

    assert.equal(progress[0], progress[1]);
    assert.deepEqual(plan, plans[0]);
    assert.equal(info.description, "arithmetic");
  });

  it("rejects with the device's own error when it cannot open", async (t) => {
    await assert.rejects(startFakeEngine(t, { query: "?failOpen=true" }), (error) => {
      assert.ok(error instanceof EngineError);
      assert.equal(error.code, "DEVICE_OUT_OF_MEMORY");
      assert.equal(error.message, "the fake device has no memory");
      assert.equal(error.remedy, "Leave failOpen out.");
      return true;
    });
  });

  it("rejects when there is no such driver", async (t) => {
    await assert.rejects(startFakeEngine(t, { driverModule: "file:///none.ts" }), {
      code: "DEVICE_FAILED",
      message: /Cannot find module/,
    });
  });

  it("rejects limits that contradict each other", async (t) => {
    const options = { maxRows: 200, maxBatchedTokens: 100 };

    await assert.rejects(startFakeEngine(t, { options }), { code: "CONFIG_INVALID" });
  });

  it("promises no longer requests than its blocks hold", async (t) => {
    const { engine } = await startFakeEngine(t, { options: { blockCount: 8, blockSize: 16 } });

    assert.equal(engine.maxModelLen, 128);
  });
});

describe("a dead engine", () => {
  for (const [how, query, message] of [
    ["whose device fails", "?failAtStep=5", "step 5 failed on purpose"],
    ["whose thread ends", "?exitAtStep=5", "the engine thread ended with code 3"],
  ] as const) {
    it(`${how} ends all generations, reports once and takes nothing more`, async (t) => {
      const running = await startFakeEngine(t, { query });
      const fatal: EngineError[] = [];
      running.onFatal((error) => fatal.push(error));
      const generations = Array.from({ length: 30 }, () =>
        running.engine.generate(aRequest({ maxTokens: 50 })),
      );

      const results = await Promise.all(generations.map(collect));

      assert.ok(results.every(({ finishReason }) => finishReason === "error"));
      assert.ok(
        results.some(({ tokenIds }) => tokenIds.length > 0),
        "tokens so far arrive",
      );
      await until(() => fatal.length > 0, "the failure is reported");
      assert.equal(fatal.length, 1);
      assert.equal(fatal[0]?.code, "DEVICE_FAILED");
      assert.equal(fatal[0]?.message, message);
      assert.throws(() => running.engine.generate(aRequest()), { code: "NOT_READY" });
      running.onFatal((error) => fatal.push(error));
      assert.equal(fatal.length, 2, "who asks later hears of it too");
      await running.drain();
      await running.close();
    });
  }
});

describe("drain", () => {
  it("refuses new requests and resolves when the last has ended", async (t) => {
    const { engine, drain } = bound(await startFakeEngine(t, { query: "?stepMs=1" }));
    const results = [5, 40, 80].map((maxTokens) =>
      collect(engine.generate(aRequest({ maxTokens }))),
    );
    let drained = false;
    const draining = drain().then(() => {
      drained = true;
    });

    assert.throws(() => engine.generate(aRequest()), { code: "DRAINING" });
    await results[0];
    assert.equal(drained, false);
    const all = await Promise.all(results);
    await draining;

    assert.deepEqual(
      all.map(({ tokenIds }) => tokenIds.length),
      [5, 40, 80],
    );
  });

  it("resolves at once when nothing runs", async (t) => {
    await (await startFakeEngine(t)).drain();
  });
});

describe("close", () => {
  it("aborts what runs and waits, and may be called twice", async (t) => {
    const { engine, close } = bound(
      await startFakeEngine(t, { query: "?stepMs=1", options: { maxRows: 2 } }),
    );
    const results = [0, 1, 2, 3].map(() => collect(engine.generate(aRequest({ maxTokens: 400 }))));
    await until(() => engine.stats().generatedTokens > 0, "tokens come");

    await Promise.all([close(), close()]);

    const reasons = (await Promise.all(results)).map(({ finishReason }) => finishReason);
    assert.deepEqual(reasons, ["abort", "abort", "abort", "abort"]);
    assert.throws(() => engine.generate(aRequest()), { code: "NOT_READY" });
  });

  it("ends by force a thread that does not end", async (t) => {
    const running = await startFakeEngine(t, { query: "?hangAtStep=1" });
    const fatal: EngineError[] = [];
    running.onFatal((error) => fatal.push(error));
    const result = collect(running.engine.generate(aRequest()));
    await until(() => running.engine.stats().stepsInFlight > 0, "the engine is stuck");

    await running.close(1);

    assert.equal((await result).finishReason, "abort");
    assert.deepEqual(fatal, [], "as asked, so nothing to report");
  });
});
