import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { aRequestInit, SchedulerRun } from "../../e2e/scheduler-run.ts";
import type { RequestInit } from "./request.ts";
import type { SchedulerLimits } from "./scheduler.ts";

const vocabSize = 40;
const device = { vocabSize, stepMs: 2, prefillTokenMs: 0.3, decodeTokenMs: 0.2 };

describe("Scheduler under random load", () => {
  it("gives every request the tokens it gets alone, and every block back", () => {
    const firstSeed = Number(Math.floor(Math.random() * 1e9));
    let preemptions = 0;
    let hits = 0;
    for (let seed = firstSeed; seed < firstSeed + 300; seed++) {
      const run = simulate(seed);
      preemptions += run.scheduler.counters.preemptionCount;
      hits += run.scheduler.counters.prefixHitTokens;
    }
    assert.ok(preemptions > 100, `seed ${firstSeed}: only ${preemptions} preemptions`);
    assert.ok(hits > 1000, `seed ${firstSeed}: only ${hits} tokens from the prefix cache`);
  });
});

function simulate(seed: number): SchedulerRun {
  const random = new Random(seed);
  const limits = randomLimits(random);
  const run = new SchedulerRun(limits, device);
  const requests = Array.from({ length: 1 + random.below(24) }, (_, i) =>
    randomRequest(random, i, limits),
  );
  const arrivals = [...requests];
  const context = `seed ${seed}`;
  try {
    for (let steps = 0; arrivals.length > 0 || run.isBusy; steps++) {
      assert.ok(steps < 5000, `${run.scheduler.waitingCount} requests still wait`);
      while (arrivals.length > 0 && random.below(3) === 0) {
        run.enqueue(arrivals.shift() as RequestInit);
      }
      if (random.below(30) === 0) run.abort(random.below(requests.length));
      run.depth = 1 + random.below(2);
      run.step();
    }
    for (const request of requests) assertAsAlone(run, request);
    assert.equal(run.scheduler.kv.pool.heldCount, 0, "blocks are held by nobody");
    assert.equal(run.scheduler.kv.rows.isEmpty, true, "rows are held by nobody");
    assert.equal(run.scheduler.waitingPromptTokens, 0);
  } catch (cause) {
    throw new Error(`${context}: ${(cause as Error).message}`, { cause });
  }
  return run;
}

function assertAsAlone(run: SchedulerRun, request: RequestInit): void {
  const alone = new SchedulerRun({}, device);
  alone.enqueue(request);
  alone.runToEnd();
  const expected = alone.tokens.get(request.index) ?? [];
  const tokens = run.tokens.get(request.index) ?? [];
  const finishReason = run.finishReasons.get(request.index);
  if (finishReason === "abort") {
    assert.deepEqual(tokens, expected.slice(0, tokens.length), `request ${request.index}`);
    return;
  }
  assert.deepEqual(tokens, expected, `request ${request.index}`);
  assert.equal(finishReason, alone.finishReasons.get(request.index));
}

function randomLimits(random: Random): SchedulerLimits {
  const blockSize = 1 + random.below(6);
  const blockCount = 5 + random.below(40);
  const maxRows = 1 + random.below(8);
  return {
    blockSize,
    blockCount,
    maxRows,
    maxBatchedTokens: maxRows + random.below(40),
    maxModelLen: Math.max(2, Math.min(200, blockCount * blockSize - random.below(4))),
    targetItlMs: random.below(2) * 5,
    prefixCaching: random.below(5) > 0,
  };
}

function randomRequest(random: Random, index: number, limits: SchedulerLimits): RequestInit {
  const length = 2 + random.below(limits.maxModelLen - 1);
  const maxTokens = 1 + random.below(length - 1);
  // Few beginnings, so that prefixes are shared; the end differs.
  const family = random.below(3) * 1000;
  const promptTokenIds = Int32Array.from({ length: length - maxTokens }, (_, i) => family + i);
  if (random.below(2) === 0) promptTokenIds[promptTokenIds.length - 1] = random.below(5);
  const stopTokenIds = Int32Array.from({ length: random.below(3) }, () => random.below(vocabSize));
  return aRequestInit({
    index,
    promptTokenIds,
    maxTokens,
    stopTokenIds,
    priority: random.below(3),
    saltLink: Int32Array.of(random.below(2), 0),
    sampling: { seed: BigInt(random.below(2)), minTokens: random.below(3), stopTokenIds },
  });
}

/** Small and repeatable: xorshift32 (Marsaglia, Xorshift RNGs, 2003). */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 0x9e3779b1) | 1;
  }

  below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }
}
