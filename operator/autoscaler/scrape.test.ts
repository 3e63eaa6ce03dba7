import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { engineMetrics } from "../../engine/contract.ts";
import { readSample } from "./scrape.ts";

const lines = Object.values(engineMetrics).map((name, i) => `# TYPE ${name} gauge\n${name} ${i}`);

describe("readSample", () => {
  it("finds each metric by its name", () => {
    assert.deepEqual(readSample("pod-0", lines.join("\n"), 5), {
      pod: "pod-0",
      atMs: 5,
      kvTokensInUse: 0,
      kvTokensTotal: 1,
      runningRequests: 2,
      waitingRequests: 3,
      waitingPromptTokens: 4,
      prefillTokensPerSecond: 7,
      decodeTokensPerSecond: 8,
    });
  });

  it("sums over labels and skips names that only begin alike", () => {
    const text = [
      ...lines,
      `${engineMetrics.runningRequests}{model="a"} 1e1`,
      `${engineMetrics.runningRequests}_total 500`,
    ].join("\n");

    assert.equal(readSample("pod-0", text, 5)?.runningRequests, 12);
  });

  it("has no sample where a metric is missing or not a number", () => {
    assert.equal(readSample("pod-0", lines.slice(1).join("\n"), 5), undefined);
    assert.equal(readSample("pod-0", `${lines.join("\n")}\n${engineMetrics.steps} 1`, 5)?.atMs, 5);
    const broken = `${lines.slice(1).join("\n")}\n${engineMetrics.kvTokensInUse} NaN`;
    assert.equal(readSample("pod-0", broken, 5), undefined);
  });
});
