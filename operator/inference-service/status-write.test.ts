import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { InferenceServiceStatus } from "../api/inference-service.ts";
import { statusWriteDelayMs } from "./status-write.ts";

describe("statusWriteDelayMs", () => {
  it("writes the first status at once", () => {
    assert.equal(statusWriteDelayMs(undefined, aStatus(), undefined), 0);
  });

  it("writes nothing where nothing but times and the order of fields changed", () => {
    const { phase, ...rest } = aStatus();
    const reordered = { ...rest, phase } as InferenceServiceStatus;
    assert.equal(statusWriteDelayMs(aStatus(), reordered, 0), undefined);
    const later = { ...aLoad(), observedAt: "2030-01-01T13:00:00Z" };
    assert.equal(statusWriteDelayMs(aStatus(), aStatus({ load: later }), 60_000), undefined);
  });

  const major: readonly (readonly [string, Partial<InferenceServiceStatus>])[] = [
    ["a phase", { phase: "Degraded" }],
    ["a number of replicas", { readyReplicas: 2 }],
    ["an observed generation", { observedGeneration: 2 }],
    ["a condition's status", { conditions: [{ ...aCondition(), status: "False" }] }],
    ["a condition's reason", { conditions: [{ ...aCondition(), reason: "Starting" }] }],
    ["a target", { scaling: { ...aScaling(), desiredReplicas: 3 } }],
    ["what a target is bound by", { scaling: { ...aScaling(), boundBy: "Policy" } }],
    ["a pod that needs attention", { pods: [aListedPod()] }],
  ];
  for (const [name, change] of major) {
    it(`writes ${name} at once`, () => {
      assert.equal(statusWriteDelayMs(aStatus(), aStatus(change), 0), 0);
    });
  }

  const minor: readonly (readonly [string, Partial<InferenceServiceStatus>])[] = [
    ["a load", { load: { ...aLoad(), runningRequests: 9 } }],
    ["the load's columns", { display: { model: "m", replicas: "1/1", kv: "9%", queue: "4" } }],
    ["a progress in words", { conditions: [{ ...aCondition(), message: "Loading 40%" }] }],
    ["the numbers of a reason", { scaling: { ...aScaling(), reason: "demand 5" } }],
  ];
  for (const [name, change] of minor) {
    it(`lets ${name} wait until ten seconds have passed since the last write`, () => {
      assert.equal(statusWriteDelayMs(aStatus(), aStatus(change), 4_000), 6_000);
      assert.equal(statusWriteDelayMs(aStatus(), aStatus(change), 12_000), 0);
      assert.equal(statusWriteDelayMs(aStatus(), aStatus(change), undefined), 0);
    });
  }
});

function aLoad() {
  return {
    kvCacheUtilization: "0.50",
    runningRequests: 1,
    waitingRequests: 0,
    observedAt: "2030-01-01T12:00:00Z",
  };
}

function aScaling(): NonNullable<InferenceServiceStatus["scaling"]> {
  return { desiredReplicas: 1, mode: "Auto", boundBy: "None", reason: "demand 4" };
}

function aCondition() {
  return {
    type: "Ready",
    status: "True",
    reason: "Serving",
    message: "1/1",
    observedGeneration: 1,
    lastTransitionTime: "2030-01-01T12:00:00Z",
  } as const;
}

function aListedPod() {
  return { name: "p", phase: "Pending", reason: "Unschedulable", message: "no place" };
}

function aStatus(fields: Partial<InferenceServiceStatus> = {}): InferenceServiceStatus {
  return {
    phase: "Serving",
    readyReplicas: 1,
    observedGeneration: 1,
    display: { model: "m", replicas: "1/1", kv: "50%", queue: "0" },
    load: aLoad(),
    scaling: aScaling(),
    conditions: [aCondition()],
    pods: [],
    ...fields,
  };
}
