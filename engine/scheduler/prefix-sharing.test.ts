import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { aRequestInit, promptOf, SchedulerRun } from "../../e2e/scheduler-run.ts";

describe("the prefix cache", () => {
  it("spares what an earlier request computed, blocks of its output too", () => {
    const run = new SchedulerRun();
    run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(10), maxTokens: 8 }));
    run.runToEnd();
    const answer = run.tokens.get(0) ?? [];
    const turn = Int32Array.from([...promptOf(10), ...answer, 7, 7]);
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: turn }));

    assert.deepEqual(run.step(), [{ index: 1, start: 16, count: 4, samples: true }]);
    assert.equal(run.requests.get(1)?.cachedTokenCount, 16);
    assert.equal(run.scheduler.counters.prefixHitTokens, 16);
    assert.equal(run.scheduler.counters.prefixQueryTokens, 30);
  });

  it("shares blocks that are still being computed with a later step", () => {
    const run = new SchedulerRun();
    run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(12) }));
    run.schedule();
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: promptOf(12) }));

    run.schedule();

    assert.equal(run.requests.get(1)?.cachedTokenCount, 8);
    run.commit();
    run.runToEnd();
    assert.deepEqual(run.tokens.get(1), run.tokens.get(0));
  });

  it("leaves the last prompt token to compute", () => {
    const run = new SchedulerRun();
    run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(16) }));
    run.runToEnd();
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: promptOf(16) }));

    assert.deepEqual(run.step(), [{ index: 1, start: 12, count: 4, samples: true }]);
  });

  it("does not share across salts", () => {
    const run = new SchedulerRun();
    run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(16) }));
    run.runToEnd();
    const saltLink = Int32Array.of(1, 0);
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: promptOf(16), saltLink }));
    run.step();

    assert.equal(run.requests.get(1)?.cachedTokenCount, 0);
  });

  it("keeps nothing when it is off", () => {
    const run = new SchedulerRun({ prefixCaching: false });
    run.enqueue(aRequestInit({ promptTokenIds: promptOf(16) }));
    run.runToEnd();

    assert.equal(run.scheduler.kv.pool.idleCount, 0);
    assert.equal(run.scheduler.kv.pool.freeCount, 1024);
  });

  it("makes room for new blocks, dropping the tail of the oldest prefix first", () => {
    const run = new SchedulerRun({ blockCount: 8, maxModelLen: 32 });
    run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(17), maxTokens: 1 }));
    run.runToEnd();
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: promptOf(20, 100), maxTokens: 1 }));
    run.runToEnd();
    run.enqueue(aRequestInit({ index: 2, promptTokenIds: promptOf(17), maxTokens: 1 }));
    run.runToEnd();

    assert.equal(run.requests.get(2)?.cachedTokenCount, 12);
  });

  it("keeps the block that the second last token fills", () => {
    const run = new SchedulerRun();
    run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(10), maxTokens: 7 }));
    run.runToEnd();
    const turn = Int32Array.from([...promptOf(10), ...(run.tokens.get(0) ?? []), 7]);
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: turn }));
    run.step();

    assert.equal(run.requests.get(1)?.cachedTokenCount, 16);
  });

  it("keeps every token of a long output, known or in flight when it was computed", () => {
    const outputs = [1, 2].map((depth) => {
      const run = new SchedulerRun();
      run.depth = depth;
      run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(10), maxTokens: 700 }));
      run.runToEnd();
      const output = run.tokens.get(0) ?? [];
      const turn = Int32Array.from([...promptOf(10), ...output, 7]);
      run.enqueue(aRequestInit({ index: 1, promptTokenIds: turn }));
      run.step();
      assert.equal(run.requests.get(1)?.cachedTokenCount, 708);
      return output;
    });

    assert.deepEqual(outputs[0], outputs[1]);
  });

  it("asks for no more blocks than the prefix leaves to compute", () => {
    const run = new SchedulerRun({ blockCount: 12, maxModelLen: 40 });
    run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(33), maxTokens: 3 }));
    run.step();
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: promptOf(34), maxTokens: 3 }));
    run.step();

    assert.equal(run.requests.get(1)?.cachedTokenCount, 32);
  });

  it("counts idle blocks that a hit revives as taken", () => {
    const run = new SchedulerRun({ blockCount: 12, maxModelLen: 40 });
    run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(33), maxTokens: 1 }));
    run.runToEnd();
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: promptOf(9, 100), maxTokens: 4 }));
    run.step();
    run.enqueue(aRequestInit({ index: 2, promptTokenIds: promptOf(33), maxTokens: 4 }));
    run.step();

    assert.equal(run.requests.get(2)?.row, -1, "eight idle and one new do not leave a reserve");
    run.runToEnd();
  });

  it("takes the blocks back that a preempted request computes again", () => {
    const run = new SchedulerRun({ blockCount: 6, maxModelLen: 24 });
    for (const index of [0, 1]) {
      const promptTokenIds = promptOf(8, index * 100);
      run.enqueue(aRequestInit({ index, promptTokenIds, maxTokens: 12 }));
    }
    run.runToEnd();
    assert.ok(run.scheduler.counters.preemptionCount > 0);
    const turn = Int32Array.from([...promptOf(8, 100), ...(run.tokens.get(1) ?? [])]);
    run.enqueue(aRequestInit({ index: 2, promptTokenIds: turn }));
    run.step();

    assert.equal(run.requests.get(2)?.cachedTokenCount, 16);
  });

  it("counts a request that resumes neither as a query nor as a hit", () => {
    const run = new SchedulerRun({ blockCount: 6, maxModelLen: 24 });
    for (const index of [0, 1]) {
      const promptTokenIds = promptOf(8, index * 100);
      run.enqueue(aRequestInit({ index, promptTokenIds, maxTokens: 12 }));
    }
    run.runToEnd();

    assert.ok(run.scheduler.counters.preemptionCount > 0);
    assert.equal(run.scheduler.counters.prefixQueryTokens, 16);
    assert.equal(run.scheduler.counters.prefixHitTokens, 0);
    assert.equal(run.scheduler.counters.promptTokens, 16);
  });
});
