import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Condition, reasons, type Statement, updateConditions } from "./conditions.ts";
import { noon, secondsBefore } from "./testing.ts";

const before = secondsBefore(noon, 60).toISOString();

describe("updateConditions", () => {
  it("dates a new condition now", () => {
    assert.deepEqual(updateConditions([], [aStatement()], 7, noon), [
      {
        type: "Ready",
        status: "True",
        reason: "Serving",
        message: "1/1 replica serving",
        observedGeneration: 7,
        lastTransitionTime: noon.toISOString(),
      },
    ]);
  });

  it("keeps the time while the status stays, whatever else changes", () => {
    const [condition] = updateConditions(
      [aCondition()],
      [aStatement({ reason: "Starting", message: "other" })],
      8,
      noon,
    );

    assert.equal(condition?.lastTransitionTime, before);
    assert.deepEqual([condition?.reason, condition?.observedGeneration], ["Starting", 8]);
  });

  it("dates a change of status", () => {
    const [condition] = updateConditions(
      [aCondition()],
      [aStatement({ status: "False" })],
      7,
      noon,
    );

    assert.equal(condition?.lastTransitionTime, noon.toISOString());
  });

  it("keeps what nothing is said about, each type once, in the order of the page", () => {
    const kept = aCondition({ type: "Accepted" });
    const conditions = updateConditions(
      [aCondition({ type: "Degraded" }), aCondition(), kept],
      [aStatement({ type: "Degraded" })],
      9,
      noon,
    );

    assert.deepEqual(
      conditions.map(({ type }) => type),
      ["Accepted", "Ready", "Degraded"],
    );
    assert.deepEqual(conditions[0], kept);
  });

  it("keeps a message within the schema's limit", () => {
    const message = (length: number) =>
      updateConditions([], [aStatement({ message: "x".repeat(length) })], 1, noon)[0]?.message;

    assert.equal(message(4_096), "x".repeat(4_096));
    assert.equal(message(5_000), `${"x".repeat(4_095)}…`);
  });
});

describe("reasons", () => {
  it("are single words, each once", () => {
    assert.equal(new Set(reasons).size, reasons.length);
    for (const reason of reasons) assert.match(reason, /^[A-Z][A-Za-z]{2,63}$/);
  });
});

function aStatement(fields: Partial<Statement> = {}): Statement {
  const message = "1/1 replica serving";
  return { type: "Ready", status: "True", reason: "Serving", message, ...fields };
}

function aCondition(fields: Partial<Condition> = {}): Condition {
  return { ...aStatement(), observedGeneration: 6, lastTransitionTime: before, ...fields };
}
