import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { quantityMillis } from "./quantity.ts";

describe("quantityMillis", () => {
  const cases: readonly (readonly [string | number, bigint])[] = [
    [4, 4_000n],
    ["4", 4_000n],
    ["500m", 500n],
    ["0.5", 500n],
    ["1.25", 1_250n],
    ["1k", 1_000_000n],
    ["1.5M", 1_500_000_000n],
    ["1G", 1_000_000_000_000n],
    ["1T", 1_000_000_000_000_000n],
    ["1Ki", 1_024_000n],
    ["1Mi", 1_048_576_000n],
    ["32Gi", 34_359_738_368_000n],
    ["1.5Gi", 1_610_612_736_000n],
    ["16Ti", 17_592_186_044_416_000n],
  ];
  for (const [quantity, millis] of cases) {
    it(`reads ${quantity}`, () => assert.equal(quantityMillis(quantity), millis));
  }

  for (const quantity of ["", "4x", "1.2345", "-1", "Gi", "1 Gi", 1.23456]) {
    it(`refuses "${quantity}"`, () => assert.throws(() => quantityMillis(quantity), RangeError));
  }
});
