import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { aRequestInit, promptOf, SchedulerRun, tokensAlone } from "../../e2e/scheduler-run.ts";

describe("preemption", () => {
  /** Two requests that together outgrow six blocks of four tokens. */
  function crowded(priorities: readonly [number, number]): SchedulerRun {
    const run = new SchedulerRun({ blockCount: 6, maxModelLen: 24, prefixCaching: false });
    for (const [index, priority] of priorities.entries()) {
      const promptTokenIds = promptOf(8, index * 100);
      run.enqueue(aRequestInit({ index, priority, promptTokenIds, maxTokens: 12 }));
    }
    return run;
  }

  function untilPreempted(run: SchedulerRun): void {
    for (let i = 0; run.scheduler.counters.preemptionCount === 0; i++) {
      assert.ok(i < 100, "nothing is preempted");
      run.step();
    }
  }

  it("takes the youngest", () => {
    const run = crowded([0, 0]);

    untilPreempted(run);

    assert.equal(run.requests.get(0)?.row === -1, false);
    assert.equal(run.requests.get(1)?.row, -1);
  });

  it("takes the least urgent before the youngest", () => {
    const run = crowded([1, 0]);

    untilPreempted(run);

    assert.equal(run.requests.get(0)?.row, -1);
    assert.equal(run.requests.get(1)?.row === -1, false);
  });

  it("resumes with the tokens it would have had", () => {
    const run = crowded([0, 0]);

    run.runToEnd();

    assert.ok(run.scheduler.counters.preemptionCount > 0);
    for (const index of [0, 1]) {
      const promptTokenIds = promptOf(8, index * 100);
      assert.deepEqual(run.tokens.get(index), tokensAlone({ promptTokenIds, maxTokens: 12 }));
    }
  });

  it("admits nobody in the step that preempts", () => {
    const run = crowded([0, 0]);
    run.depth = 1;
    while (run.scheduler.kv.pool.availableCount > 0) run.step();
    run.enqueue(aRequestInit({ index: 2, priority: -1, promptTokenIds: promptOf(4, 500) }));

    untilPreempted(run);

    assert.equal(run.requests.get(2)?.row, -1);
    assert.ok(run.scheduler.kv.pool.availableCount >= 2, "though there was room");
  });

  it("goes before whoever came later, and keeps the token in flight", () => {
    const run = crowded([0, 0]);
    untilPreempted(run);
    const victim = run.requests.get(1);
    const { generatedCount = 0, pendingCount = 0 } = victim ?? {};
    run.enqueue(aRequestInit({ index: 2, promptTokenIds: promptOf(4, 500) }));

    while (victim?.row === -1) {
      assert.equal(run.requests.get(2)?.row, -1);
      run.step();
    }

    assert.equal(victim?.generatedCount, generatedCount + pendingCount);
  });

  it("waits for blocks that a step in flight gives back rather than preempt one more", () => {
    const run = new SchedulerRun({ blockCount: 9, maxModelLen: 36, prefixCaching: false });
    for (const index of [0, 1, 2]) {
      const promptTokenIds = promptOf(8, index * 100);
      run.enqueue(aRequestInit({ index, promptTokenIds, maxTokens: 16 }));
    }

    untilPreempted(run);
    run.step();

    assert.equal(run.scheduler.counters.preemptionCount, 1);
    assert.equal(run.scheduler.runningCount, 2);
  });
});

describe("a request that awaits a token", () => {
  it("is never given another row", () => {
    const run = new SchedulerRun();
    run.enqueue(aRequestInit()).pendingCount = 1;

    assert.throws(() => run.schedule(), /request 0 awaits a token/);
  });
});

describe("step fences", () => {
  it("hold the blocks and the row of an aborted request until its step has retired", () => {
    const run = new SchedulerRun({ maxRows: 1 });
    run.enqueue(aRequestInit({ index: 0 }));
    run.schedule();
    run.abort(0);
    run.enqueue(aRequestInit({ index: 1 }));
    assert.equal(run.scheduler.kv.pool.heldCount, 2);
    assert.equal(run.schedule(), undefined, "the only row is still in use");

    run.commit();

    assert.equal(run.scheduler.kv.pool.heldCount, 0);
    assert.equal(run.schedule()?.length, 1);
    assert.deepEqual(run.tokens.get(0), [], "the aborted request's token is dropped");
  });

  it("last until the step that was scheduled ahead has retired", () => {
    const stop = tokensAlone({ maxTokens: 1 })[0] as number;
    const run = new SchedulerRun();
    run.enqueue(aRequestInit({ stopTokenIds: Int32Array.of(stop) }));
    run.schedule();
    run.schedule();

    run.commit();
    const afterFirst = run.scheduler.kv.pool.heldCount;
    run.commit();

    assert.equal(afterFirst, 3);
    assert.equal(run.scheduler.kv.pool.heldCount, 0);
  });

  it("do not hold what no step in flight touches", () => {
    const run = new SchedulerRun();
    run.enqueue(aRequestInit());
    run.schedule();
    run.commit();

    run.abort(0);

    assert.equal(run.scheduler.kv.pool.heldCount, 0);
    assert.equal(run.scheduler.kv.rows.isEmpty, true);
  });
});
