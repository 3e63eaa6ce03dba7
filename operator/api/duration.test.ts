import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { durationMs } from "./duration.ts";

describe("durationMs", () => {
  it("adds up its parts", () => {
    assert.equal(durationMs("800ms"), 800);
    assert.equal(durationMs("1m30s"), 90_000);
    assert.equal(durationMs("2h"), 7_200_000);
  });

  it("refuses what has no unit or an unknown one", () => {
    for (const text of ["", "5", "5d", "-1s", "1.5s", "1s "]) {
      assert.throws(() => durationMs(text), new RegExp(`"${text}" is not a duration`));
    }
  });
});
