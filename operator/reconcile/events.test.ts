import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { InferenceServiceStatus } from "../api/inference-service.ts";
import { type ConditionType, type Reason, updateConditions } from "./conditions.ts";
import { eventsOf } from "./events.ts";
import type { PodPlan } from "./plan.ts";
import { aService, noon } from "./testing.ts";

type Said = Partial<Record<ConditionType, readonly ["True" | "False", Reason]>>;

const serving: Said = { Ready: ["True", "Serving"], Degraded: ["False", "None"] };
const nothing: PodPlan = { create: [], drain: [], delete: [], settled: true };

describe("eventsOf", () => {
  const cases: readonly (readonly [string, Said, Said, readonly string[]])[] = [
    ["is silent while nothing changes", serving, serving, []],
    ["tells of the first readiness", {}, serving, ["Normal Serving"]],
    [
      "tells how far a start is",
      { Ready: ["False", "Downloading"] },
      { Ready: ["False", "Loading"] },
      ["Normal Loading"],
    ],
    [
      "warns when readiness is lost",
      serving,
      { Ready: ["False", "EngineUnhealthy"] },
      ["Warning EngineUnhealthy"],
    ],
    [
      "does not warn of a service that someone ended",
      serving,
      { Ready: ["False", "Draining"] },
      ["Normal Draining"],
    ],
    [
      "tells one trouble once",
      serving,
      { Ready: ["False", "EngineCrashLoop"], Degraded: ["True", "EngineCrashLoop"] },
      ["Warning EngineCrashLoop"],
    ],
    [
      "warns of trouble beside pods that serve",
      serving,
      { ...serving, Degraded: ["True", "InsufficientGPU"] },
      ["Warning InsufficientGPU"],
    ],
    [
      "warns when the trouble is another",
      { Degraded: ["True", "InsufficientGPU"] },
      { Degraded: ["True", "EngineCrashLoop"] },
      ["Warning EngineCrashLoop"],
    ],
    [
      "warns of a refused spec",
      { Accepted: ["True", "Valid"] },
      { Accepted: ["False", "InvalidSpec"], Progressing: ["False", "InvalidSpec"] },
      ["Warning InvalidSpec"],
    ],
    [
      "warns of a rollout that stops",
      { Progressing: ["True", "RollingOut"] },
      { Progressing: ["False", "RolloutStalled"] },
      ["Warning RolloutStalled"],
    ],
    [
      "warns once of a reconcile that fails again and again",
      { Progressing: ["False", "ReconcileFailed"] },
      { Progressing: ["False", "ReconcileFailed"] },
      [],
    ],
    [
      "is silent when all is done",
      { Progressing: ["True", "Scaling"] },
      { Progressing: ["False", "Settled"] },
      [],
    ],
    [
      "warns of measurements that end",
      { ScalingActive: ["True", "Fresh"] },
      { ScalingActive: ["False", "MetricsStale"] },
      ["Warning MetricsStale"],
    ],
    [
      "is silent about replicas that are given",
      {},
      { ScalingActive: ["False", "ReplicasGiven"] },
      [],
    ],
  ];
  for (const [title, before, after, expected] of cases) {
    it(title, () => {
      const service = aService({}, { status: aStatus(before) });
      const events = eventsOf(service, aStatus(after), nothing);

      assert.deepEqual(
        events.map(({ type, reason }) => `${type} ${reason}`),
        expected,
      );
    });
  }

  it("carries the condition's message", () => {
    const [event] = eventsOf(aService(), aStatus(serving), nothing);

    assert.equal(event?.message, "about Ready");
  });

  it("tells what the plan does, as what it belongs to", () => {
    const plan = { ...nothing, create: [0], settled: false };
    const told = (reason: Reason) => {
      const status = aStatus({ Progressing: ["True", reason] });
      return eventsOf(aService({}, { status }), status, plan);
    };

    assert.deepEqual(told("RollingOut"), [
      { type: "Normal", reason: "RollingOut", message: "create 1 pod" },
    ]);
    assert.deepEqual(told("Scaling"), [
      { type: "Normal", reason: "Scaling", message: "create 1 pod" },
    ]);
  });

  it("tells of a new number of replicas with its reason", () => {
    const scaled = (desiredReplicas: number): InferenceServiceStatus => ({
      scaling: { desiredReplicas, mode: "Auto", boundBy: "None", reason: "kv 0.86" },
    });
    const events = (from: number, to: number) =>
      eventsOf(aService({}, { status: scaled(from) }), scaled(to), undefined);

    assert.deepEqual(events(2, 3), [
      { type: "Normal", reason: "Scaling", message: "2 → 3 replicas: kv 0.86" },
    ]);
    assert.deepEqual(events(2, 2), []);
    assert.deepEqual(eventsOf(aService(), scaled(2), undefined), []);
  });
});

function aStatus(said: Said): InferenceServiceStatus {
  const statements = Object.entries(said).map(([type, [status, reason]]) => {
    return { type: type as ConditionType, status, reason, message: `about ${type}` };
  });
  return { conditions: updateConditions([], statements, 1, noon) };
}
