import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { promptOf, tokensAlone } from "../../e2e/scheduler-run.ts";
import {
  allBlocksAreBack,
  aRequest,
  collect,
  startFakeEngine,
  until,
} from "../../e2e/started-engine.ts";

describe("Engine.generate", () => {
  it("gives every finished request its own tokens while others are aborted", async (t) => {
    const running = await startFakeEngine(t, { options: { blockCount: 96, maxModelLen: 256 } });
    const results = await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const request = aRequest({
          promptTokenIds: promptOf(1 + ((i * 13) % 90), (i % 5) * 1000),
          maxTokens: 1 + ((i * 7) % 60),
          priority: i % 3,
          sampling: { seed: BigInt(i % 4) },
        });
        const aborts = i % 10 < 3;
        const generation = running.engine.generate(request);
        if (aborts) setTimeout(() => generation.abort(), (i * 11) % 40);
        return { request, aborts, ...(await collect(generation)) };
      }),
    );

    for (const { request, aborts, tokenIds, finishReason } of results) {
      const expected = tokensAlone(request);
      if (!aborts) assert.equal(finishReason, "length");
      if (finishReason === "length") assert.deepEqual(tokenIds, expected);
      else assert.deepEqual(tokenIds, expected.slice(0, tokenIds.length));
    }
    assert.ok(results.some(({ finishReason }) => finishReason === "abort"));
    await allBlocksAreBack(running);
  });

  it("ends with the token that stops", async (t) => {
    const { engine } = await startFakeEngine(t);
    const expected = tokensAlone({ maxTokens: 8 });

    const { tokenIds, finishReason } = await collect(
      engine.generate(
        aRequest({ maxTokens: 8, stopTokenIds: Int32Array.from([expected[3] ?? 0]) }),
      ),
    );

    assert.deepEqual(tokenIds, expected.slice(0, 4));
    assert.equal(finishReason, "stop");
  });

  it("passes logprobs on where they were asked for", async (t) => {
    const { engine } = await startFakeEngine(t);

    const { updates, tokenIds } = await collect(
      engine.generate(aRequest({ sampling: { topLogprobs: 2 } })),
    );
    const plain = await collect(engine.generate(aRequest()));

    const tops = updates.flatMap(({ topLogprobs }) => topLogprobs);
    const logprobs = updates.flatMap((update) => update.logprobs);
    assert.deepEqual(
      tops.map((top) => top.map(([tokenId]) => tokenId)),
      tokenIds.map((tokenId) => [tokenId, (tokenId + 1) % 1000]),
    );
    assert.deepEqual(
      tops.map((top) => top[0]?.[1]),
      logprobs,
    );
    assert.ok(plain.updates.every((update) => update.logprobs.length === 0));
  });

  it("says how much of the prompt was cached, and shares under one salt only", async (t) => {
    const { engine } = await startFakeEngine(t);
    const promptTokenIds = promptOf(40);
    const cachedOf = async (cacheSalt: string): Promise<number | undefined> => {
      const { updates } = await collect(engine.generate(aRequest({ promptTokenIds, cacheSalt })));
      return updates[0]?.cachedTokenCount;
    };

    assert.deepEqual(
      [await cachedOf("a"), await cachedOf("a"), await cachedOf("b"), await cachedOf("b")],
      [0, 32, 0, 32],
    );
  });

  it("lets nobody wait for a reader that does not read", async (t) => {
    const { engine } = await startFakeEngine(t);
    const slow = engine.generate(aRequest({ maxTokens: 400 }));
    const fast = await Promise.all(
      Array.from({ length: 20 }, () => collect(engine.generate(aRequest({ maxTokens: 100 })))),
    );
    assert.ok(fast.every(({ tokenIds }) => tokenIds.length === 100));
    await until(() => engine.stats().runningCount === 0, "the slow one runs to its end");

    const { tokenIds, updates } = await collect(slow);

    assert.equal(tokenIds.length, 400);
    assert.ok((updates[0]?.tokenIds.length ?? 0) > 200, "most of them at once");
  });

  it("goes on when the event ring was full", async (t) => {
    const { engine } = await startFakeEngine(t);
    const generations = Array.from({ length: 120 }, () =>
      engine.generate(
        aRequest({ promptTokenIds: promptOf(1), maxTokens: 80, sampling: { topLogprobs: 20 } }),
      ),
    );
    // 120 x 80 tokens of 46 words do not fit into the ring while this thread stands still.
    const { stepCount } = engine.stats();
    for (let still = 0, seen = stepCount; still < 50; ) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
      still = engine.stats().stepCount === seen ? still + 1 : 0;
      seen = engine.stats().stepCount;
    }
    assert.ok(engine.stats().generatedTokens < 120 * 80, "the engine waits");
    assert.ok(Date.now() - engine.stats().heartbeatMs < 3000, "and its heart beats");

    const results = await Promise.all(generations.map(collect));

    assert.ok(results.every(({ tokenIds }) => tokenIds.length === 80));
  });

  it("refuses what is too long, and what asks for nothing", async (t) => {
    const { engine } = await startFakeEngine(t);

    assert.throws(() => engine.generate(aRequest({ maxTokens: 505 })), {
      code: "CONTEXT_LENGTH_EXCEEDED",
      message: "8 prompt tokens and 505 to generate exceed 512",
    });
    assert.throws(() => engine.generate(aRequest({ maxTokens: 0 })), { code: "REQUEST_INVALID" });
    assert.throws(() => engine.generate(aRequest({ promptTokenIds: promptOf(0) })), {
      code: "REQUEST_INVALID",
    });
  });

  it("refuses requests beyond rows and queue, and takes them again when some have ended", async (t) => {
    const running = await startFakeEngine(t, {
      query: "?stepMs=1",
      options: { maxRows: 4 },
      limits: { maxWaitingRequests: 2 },
    });
    const { engine } = running;
    const admitted = Array.from({ length: 6 }, () => engine.generate(aRequest({ maxTokens: 20 })));

    assert.throws(() => engine.generate(aRequest()), { code: "QUEUE_FULL" });

    await Promise.all(admitted.map(collect));
    await allBlocksAreBack(running);
    assert.equal((await collect(engine.generate(aRequest()))).finishReason, "length");
  });

  it("refuses what its inbox cannot hold, and keeps room there for every abort", async (t) => {
    const { engine } = await startFakeEngine(t, { query: "?hangAtStep=1" });
    const generations = [engine.generate(aRequest())];
    await until(() => engine.stats().stepsInFlight > 0, "the engine is stuck");
    for (const biasCount of [40_000, 4000, 400, 40, 0]) {
      const biasTokenIds = new Int32Array(biasCount);
      const sampling = { biasTokenIds, biasValues: new Float32Array(biasCount) };
      assert.throws(
        () => {
          for (;;) generations.push(engine.generate(aRequest({ sampling })));
        },
        { code: "QUEUE_FULL", message: /the engine's inbox/ },
      );
    }

    for (const generation of generations) generation.abort();
  });
});

describe("Engine.stats", () => {
  it("tell of the work that was done", async (t) => {
    const running = await startFakeEngine(t, { query: "?stepMs=1" });
    const { engine } = running;
    await collect(engine.generate(aRequest({ promptTokenIds: promptOf(40), maxTokens: 5 })));
    await allBlocksAreBack(running);

    const stats = engine.stats();

    assert.equal(stats.promptTokens, 40);
    assert.equal(stats.generatedTokens, 5);
    assert.equal(stats.batchedTokens, 44);
    assert.equal(stats.stepCount, 5);
    assert.equal(stats.stepMs, 5);
    assert.equal(stats.stepsInFlight, 0);
    assert.equal(stats.prefillTokensPerSecond, 40_000);
    assert.equal(stats.decodeTokensPerSecond, 1000);
    assert.deepEqual([stats.blockCount, stats.blockSize, stats.cachedBlockCount], [256, 16, 2]);
  });

  it("show a step that hangs", async (t) => {
    const running = await startFakeEngine(t, { query: "?hangAtStep=1" });
    running.engine.generate(aRequest());
    await until(() => running.engine.stats().stepsInFlight > 0, "steps are in flight");
    const { heartbeatMs } = running.engine.stats();

    await until(() => Date.now() - heartbeatMs > 50, "time goes by");

    assert.equal(running.engine.stats().heartbeatMs, heartbeatMs);
    await running.close(1);
  });

  it("beat once a second while nothing happens, and no more", async (t) => {
    const { engine } = await startFakeEngine(t);
    await collect(engine.generate(aRequest()));
    const beats = new Set<number>();
    const end = performance.now() + 2500;
    await until(() => {
      beats.add(engine.stats().heartbeatMs);
      return performance.now() > end;
    }, "time goes by");

    assert.ok(beats.size >= 3 && beats.size <= 5, `${beats.size} beats`);
  });
});
