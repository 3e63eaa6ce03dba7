import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { durationMs } from "./duration.ts";

describe("durationMs", () => {
  const cases: readonly (readonly [string, number])[] = [
    ["800ms", 800],
    ["0s", 0],
    ["2s", 2_000],
    ["10m", 600_000],
    ["1h30m", 5_400_000],
    ["1m5s20ms", 65_020],
  ];
  for (const [duration, ms] of cases) {
    it(`reads ${duration}`, () => assert.equal(durationMs(duration), ms));
  }

  for (const duration of ["", "5", "1d", "2 s", "s", "-1s", "1.5s"]) {
    it(`refuses "${duration}"`, () => assert.throws(() => durationMs(duration), RangeError));
  }
});
