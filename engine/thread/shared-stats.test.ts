import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { EngineStats } from "../generation.ts";
import { createSharedStats, readStats, TokenRate, writeStats } from "./shared-stats.ts";

describe("shared stats", () => {
  it("are read as they were written", () => {
    const shared = createSharedStats();
    const names = Object.keys(readStats(shared));
    const stats = Object.fromEntries(names.map((name, i) => [name, i + 0.5]));

    writeStats(shared, stats as unknown as EngineStats);

    assert.deepEqual(readStats(shared), stats);
    assert.equal(names.length, 20);
  });
});

describe("TokenRate", () => {
  it("is tokens over the time of the steps that computed them", () => {
    const rate = new TokenRate(5000);
    assert.equal(rate.tokensPerSecond, 0);
    for (let i = 0; i < 10; i++) {
      rate.observe(5, 10);
      rate.observe(0, 1000);
    }

    assert.equal(Math.round(rate.tokensPerSecond), 500);
  });

  it("forgets the past as time goes by", () => {
    const rate = new TokenRate(1000);
    rate.observe(1000, 1000);
    for (let i = 0; i < 100; i++) rate.observe(10, 100);

    assert.equal(Math.round(rate.tokensPerSecond), 100);
  });
});
