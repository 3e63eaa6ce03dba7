import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { aRequestInit, promptOf, SchedulerRun } from "../../e2e/scheduler-run.ts";

describe("targetItlMs", () => {
  const device = { stepMs: 2, prefillTokenMs: 0.5, decodeTokenMs: 0.25 };

  /** One request decodes; the model of step times has seen prompts of many lengths. */
  function warm(targetItlMs: number): SchedulerRun {
    const run = new SchedulerRun(
      { targetItlMs, maxBatchedTokens: 256, prefixCaching: false },
      device,
    );
    for (let index = 100; index < 130; index++) {
      const promptTokenIds = promptOf(10 + (index % 7) * 9, index);
      run.enqueue(aRequestInit({ index, promptTokenIds, maxTokens: 3 }));
      run.runToEnd();
    }
    run.enqueue(aRequestInit({ index: 0, maxTokens: 200 }));
    for (let i = 0; i < 4; i++) run.step();
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: promptOf(400, 50) }));
    return run;
  }

  function prefillOf(run: SchedulerRun): number {
    return run.step()?.find(({ index }) => index === 1)?.count ?? 0;
  }

  it("cuts prompts so that a step with decodes keeps within it", () => {
    const count = prefillOf(warm(20));

    // 20 ms = 2 + 0.25 for the decode + 0.5 a token.
    assert.ok(count >= 33 && count <= 36, `${count} tokens`);
  });

  it("lets one block of a prompt pass that it cannot afford", () => {
    const run = warm(1);

    assert.equal(prefillOf(run), 4);
    assert.equal(prefillOf(run), 4);
  });

  it("does not cut where nothing decodes", () => {
    const run = warm(20);
    run.abort(0);

    assert.equal(prefillOf(run), 256);
  });

  it("does not take the last token of a prompt for a decode", () => {
    const run = new SchedulerRun({ targetItlMs: 20, maxBatchedTokens: 256 }, device);
    run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(257, 1000) }));
    run.step();
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: promptOf(400, 50) }));

    assert.equal(prefillOf(run), 255);
  });

  it("is measured against what the step computes", () => {
    const run = new SchedulerRun();
    run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(8) }));
    run.schedule();
    run.commit();
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: promptOf(3, 50) }));
    run.schedule();

    assert.deepEqual(run.scheduler.oldestLoad, {
      decodeRows: 1,
      decodeContext: 9,
      prefillTokens: 3,
      prefillContext: 1 + 2 + 3,
    });
  });

  it("does not cut when it is 0", () => {
    assert.equal(prefillOf(warm(0)), 255);
  });

  it("is careful until enough steps were seen", () => {
    const run = new SchedulerRun({ targetItlMs: 1000, maxBatchedTokens: 256 }, device);
    run.enqueue(aRequestInit({ index: 0, maxTokens: 100 }));
    run.step();
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: promptOf(400, 50) }));

    assert.equal(prefillOf(run), 16);
    run.enqueue(aRequestInit({ index: 2, promptTokenIds: promptOf(400, 500) }));
    assert.equal(prefillOf(run), 16, "and those 16 are for all prompts together");
    assert.equal(run.requests.get(2)?.row, -1);
  });
});
