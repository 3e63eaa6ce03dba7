import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type EngineModel, SimulatedReplica, type SimulatedRequest } from "./replica.ts";
import { allRules } from "./rules.ts";
import { simulate } from "./simulate.ts";
import { requestsOf, type Trace, traces } from "./traces.ts";

const model: EngineModel = {
  stepMs: 10,
  prefillTokenMs: 0.1,
  decodeRowMs: 0,
  contextTokenMs: 0,
  maxRows: 2,
  maxBatchedTokens: 100,
  kvTokens: 4_000,
  loadMs: 5_000,
};
const facts = { maxRows: 2, maxReplicas: 4, ttftAimMs: 1_000, loadMs: 5_000 };

describe("SimulatedReplica", () => {
  it("takes one step for each chunk of the prompt and one for each further token", () => {
    const request: SimulatedRequest = { arrivedMs: 0, promptTokens: 150, outputTokens: 3 };
    const replica = new SimulatedReplica("r", -5_000, model);

    replica.enqueue(request, 0);
    while (replica.stepEndMs < Number.POSITIVE_INFINITY) replica.finishStep();

    assert.equal(request.firstTokenMs, 10 + 10 + 10 + 5); // 100 tokens, then 50
    assert.equal(request.doneMs, 35 + 2 * 10);
    assert.equal(replica.sample(0).kvTokensInUse, 0);
  });

  it("keeps requests waiting beyond its rows", () => {
    const replica = new SimulatedReplica("r", -5_000, model);

    for (let i = 0; i < 5; i++) {
      replica.enqueue({ arrivedMs: 0, promptTokens: 10, outputTokens: 50 }, 0);
    }
    replica.finishStep();

    const sample = replica.sample(10);
    assert.deepEqual([sample.runningRequests, sample.waitingRequests], [2, 3]);
    assert.equal(sample.waitingPromptTokens, 30);
  });

  it("finishes every request when the cache holds only one of them at a time", () => {
    const replica = new SimulatedReplica("r", -5_000, { ...model, kvTokens: 200 });
    const requests = Array.from({ length: 4 }, (): SimulatedRequest => {
      return { arrivedMs: 0, promptTokens: 60, outputTokens: 100 };
    });

    for (const request of requests) replica.enqueue(request, 0);
    for (let i = 0; i < 10_000 && replica.inFlight > 0; i++) replica.finishStep();

    assert.ok(requests.every((request) => request.doneMs !== undefined));
    assert.equal(replica.sample(0).kvTokensInUse, 0);
  });
});

describe("simulate", () => {
  const trace: Trace = { name: "t", durationMs: 120_000, rate: () => 2, promptFactor: 1 };

  it("repeats itself for a seed", () => {
    for (const index of allRules(facts).keys()) {
      const [first, second] = [run(trace, index), run(trace, index)];

      assert.deepEqual(first, second);
    }
  });

  it("loses no request under any rule that can reach the limit", () => {
    const report = run(trace, 0);

    assert.equal(report.lostRequests, 0);
    assert.ok(report.maxReplicas <= facts.maxReplicas);
  });

  it("pays for a replica from its creation to the end of its last request", () => {
    const fixed = { name: "two", next: () => 2 };

    const report = simulate([{ arrivedMs: 1, promptTokens: 1, outputTokens: 1 }], fixed, model, 4);

    assert.equal(report.gpuSeconds, 2 * 120);
  });
});

describe("traces", () => {
  it("arrive at their rate", () => {
    for (const trace of traces) {
      let expected = 0;
      for (let s = 0; s < trace.durationMs / 1_000; s++) expected += trace.rate(s);

      const { length } = requestsOf(trace, 1);

      // Five standard deviations of a Poisson count.
      assert.ok(Math.abs(length - expected) < 5 * Math.sqrt(expected), `${trace.name}: ${length}`);
    }
  });
});

function run(trace: Trace, index: number) {
  const rule = allRules(facts)[index];
  assert.ok(rule);
  return simulate(requestsOf(trace, 7), rule, model, facts.maxReplicas);
}
