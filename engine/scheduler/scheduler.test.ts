import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  ampleLimits,
  aRequestInit,
  promptOf,
  SchedulerRun,
  tokensAlone,
} from "../../e2e/scheduler-run.ts";
import { Scheduler } from "./scheduler.ts";

describe("Scheduler.schedule", () => {
  it("prefills a prompt in one chunk that samples, then decodes one token a step", () => {
    const run = new SchedulerRun();
    run.enqueue(aRequestInit({ promptTokenIds: promptOf(8), maxTokens: 3 }));

    const steps = [run.step(), run.step(), run.step(), run.step()];

    assert.deepEqual(steps, [
      [{ index: 0, start: 0, count: 8, samples: true }],
      [{ index: 0, start: 8, count: 1, samples: true }],
      [{ index: 0, start: 9, count: 1, samples: true }],
      undefined,
    ]);
    assert.equal(run.finishReasons.get(0), "length");
  });

  it("cuts a prompt at the step's tokens and samples with its last chunk only", () => {
    const run = new SchedulerRun({ maxBatchedTokens: 16 });
    run.enqueue(aRequestInit({ promptTokenIds: promptOf(40) }));

    assert.deepEqual(
      [run.step(), run.step(), run.step()],
      [
        [{ index: 0, start: 0, count: 16, samples: false }],
        [{ index: 0, start: 16, count: 16, samples: false }],
        [{ index: 0, start: 32, count: 8, samples: true }],
      ],
    );
  });

  it("fills the step with the next prompt behind the decodes", () => {
    const run = new SchedulerRun({ maxBatchedTokens: 16 });
    run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(8) }));
    run.step();
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: promptOf(40, 100) }));

    assert.deepEqual(run.step(), [
      { index: 0, start: 8, count: 1, samples: true },
      { index: 1, start: 0, count: 15, samples: false },
    ]);
  });

  it("keeps a token for a decode whatever an older or more urgent prompt could take", () => {
    const run = new SchedulerRun({ maxBatchedTokens: 16 });
    run.enqueue(aRequestInit({ index: 0, priority: 1, maxTokens: 8 }));
    run.step();
    run.enqueue(aRequestInit({ index: 1, priority: 0, promptTokenIds: promptOf(100, 50) }));
    run.step();

    const chunks = run.step();

    assert.deepEqual(chunks, [
      { index: 1, start: 15, count: 15, samples: false },
      { index: 0, start: 9, count: 1, samples: true },
    ]);
  });

  it("does not compute beyond a token in flight that is certainly the last", () => {
    const run = new SchedulerRun();
    run.enqueue(aRequestInit({ maxTokens: 1 }));
    run.schedule();

    assert.equal(run.schedule(), undefined);
  });

  it("wastes one chunk at most on a request that turns out to have stopped", () => {
    const stop = tokensAlone({ maxTokens: 4 })[0] as number;
    const run = new SchedulerRun();
    run.enqueue(aRequestInit({ maxTokens: 4, stopTokenIds: Int32Array.of(stop) }));
    run.schedule();
    run.schedule();
    run.commit();

    assert.equal(run.schedule(), undefined, "nothing is left to schedule");
    run.commit();

    assert.deepEqual(run.tokens.get(0), [stop]);
    assert.equal(run.finishReasons.get(0), "stop");
    assert.equal(run.scheduler.counters.generatedTokens, 1);
  });

  it("refuses a third step in flight", () => {
    const run = new SchedulerRun();
    run.enqueue(aRequestInit({ maxTokens: 8 }));
    run.schedule();
    run.schedule();

    assert.throws(() => run.schedule(), /a third step is scheduled/);
  });
});

describe("Scheduler.commit", () => {
  const nothing = {
    sampledCount: 0,
    tokenIds: new Int32Array(0),
    logprobs: new Float32Array(0),
    topTokenIds: new Int32Array(0),
    topLogprobs: new Float32Array(0),
    stepMs: 1,
  };

  it("refuses a result without a step in flight", () => {
    const { scheduler } = new SchedulerRun();

    assert.throws(() => scheduler.commit(nothing, { onToken: () => {} }), /no step is in flight/);
  });

  it("refuses a result with another number of tokens than the step samples", () => {
    const run = new SchedulerRun();
    run.enqueue(aRequestInit());
    run.schedule();

    assert.throws(
      () => run.scheduler.commit(nothing, { onToken: () => {} }),
      /0 tokens arrive for 1 sampling chunks/,
    );
  });

  it("counts the tokens of finished steps", () => {
    const run = new SchedulerRun();
    run.enqueue(aRequestInit({ promptTokenIds: promptOf(8), maxTokens: 3 }));

    run.runToEnd();

    const { batchedTokens, promptTokens, generatedTokens } = run.scheduler.counters;
    assert.deepEqual(
      { batchedTokens, promptTokens, generatedTokens },
      {
        batchedTokens: 10,
        promptTokens: 8,
        generatedTokens: 3,
      },
    );
  });
});

describe("admission", () => {
  it("goes by priority, then by arrival", () => {
    const run = new SchedulerRun({ maxRows: 1 });
    for (const [index, priority] of [1, 0, 1, 0].entries()) {
      run.enqueue(aRequestInit({ index, priority }));
    }

    run.runToEnd();

    assert.deepEqual([...run.finishReasons.keys()], [1, 3, 0, 2]);
  });

  it("waits for blocks for the whole prompt rather than begin it", () => {
    const run = new SchedulerRun({ blockCount: 10, maxModelLen: 40, prefixCaching: false });
    run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(24), maxTokens: 2 }));
    run.step();
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: promptOf(16, 100), maxTokens: 2 }));
    run.enqueue(aRequestInit({ index: 2, promptTokenIds: promptOf(4, 200), maxTokens: 2 }));

    const chunks = run.step();

    assert.deepEqual(
      chunks?.map(({ index }) => index),
      [0],
      "the short one behind does not overtake",
    );
    run.runToEnd();
    assert.deepEqual([...run.finishReasons.keys()], [0, 1, 2]);
  });

  it("leaves a block in a hundred to those that run, and all of them to one alone", () => {
    const run = new SchedulerRun({ blockCount: 8, maxModelLen: 32 });
    run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(16), maxTokens: 9 }));
    run.step();
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: promptOf(12, 100) }));
    run.step();
    assert.equal(run.scheduler.runningCount, 1);

    const alone = new SchedulerRun({ blockCount: 8, maxModelLen: 32 });
    alone.enqueue(aRequestInit({ promptTokenIds: promptOf(31), maxTokens: 1 }));
    alone.step();

    assert.equal(alone.scheduler.runningCount, 1);
  });

  it("refuses a request that could never fit, and an index that lives", () => {
    const run = new SchedulerRun({ maxModelLen: 32 });
    run.enqueue(aRequestInit());

    assert.throws(() => run.enqueue(aRequestInit()), /request 0 lives already/);
    const tooLong = aRequestInit({ index: 1, promptTokenIds: promptOf(30), maxTokens: 3 });
    assert.throws(() => run.enqueue(tooLong), /30 prompt tokens and 3 to generate, of 32/);
    const empty = aRequestInit({ index: 1, promptTokenIds: promptOf(0) });
    assert.throws(() => run.enqueue(empty), /0 prompt tokens/);
    assert.throws(() => run.enqueue(aRequestInit({ index: 1, maxTokens: 0 })), /0 to generate/);
  });

  it("counts the prompt tokens that wait, without those that the prefix cache has", () => {
    const run = new SchedulerRun({ maxRows: 1 });
    run.enqueue(aRequestInit({ index: 0, promptTokenIds: promptOf(8), maxTokens: 8 }));
    run.step();
    run.enqueue(aRequestInit({ index: 1, promptTokenIds: promptOf(14) }));
    run.enqueue(aRequestInit({ index: 2, promptTokenIds: promptOf(5, 100) }));

    assert.equal(run.scheduler.waitingPromptTokens, 6 + 5);

    run.abort(2);
    assert.equal(run.scheduler.waitingPromptTokens, 6);
  });

  it("refuses limits that contradict each other", () => {
    const limits = { ...ampleLimits, blockCount: 8, maxRows: 4, maxModelLen: 32 };
    assert.throws(() => new Scheduler({ ...limits, maxBatchedTokens: 3 }), /cannot decode 4 rows/);
    assert.throws(() => new Scheduler({ ...limits, maxModelLen: 33 }), /33 tokens exceed 8 blocks/);
  });
});

describe("abort", () => {
  it("ends a request that waits, one that runs, and none that is gone", () => {
    const run = new SchedulerRun({ maxRows: 1 });
    run.enqueue(aRequestInit({ index: 0 }));
    run.enqueue(aRequestInit({ index: 1 }));
    run.step();

    run.abort(1);
    run.abort(0);

    assert.equal(run.scheduler.abort(0), undefined);
    run.runToEnd();
    assert.equal(run.scheduler.waitingCount + run.scheduler.runningCount, 0);
  });

  it("ends all, oldest first", () => {
    const run = new SchedulerRun({ maxRows: 1 });
    for (const index of [3, 1, 2]) run.enqueue(aRequestInit({ index }));
    run.step();

    const ended = run.scheduler.abortAll().map(({ index, finished }) => [index, finished]);

    assert.deepEqual(ended, [
      [3, "abort"],
      [1, "abort"],
      [2, "abort"],
    ]);
    run.runToEnd();
  });
});
