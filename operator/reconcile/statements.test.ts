import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { InferenceService } from "../api/inference-service.ts";
import type { ObservedPod } from "./observed-pod.ts";
import type { ScalingDecision } from "./scaling.ts";
import { conditionOf, statusOf } from "./status.ts";
import { aDecision, aPod, aReport, aService, noon, startupIn } from "./testing.ts";

const loading = { ready: false, startup: startupIn("Loading") };
const crashed = {
  ready: false,
  restartCount: 3,
  termination: { code: "CHECKSUM_MISMATCH", message: "wrong file", remedy: "Fetch it again." },
};
const unplaced = { ready: false, phase: "Pending", unschedulable: "no nvidia.com/gpu" } as const;
const leaving = { ready: false, drainingSince: noon, inFlight: 1 };

describe("conditions and phase", () => {
  type Expected = Record<string, string>;
  const two = (a: Partial<ObservedPod>, b: Partial<ObservedPod>) => [
    aPod("a", a),
    aPod("b", { ordinal: 1, ...b }),
  ];
  const old = { templateHash: "old" };
  const cases: readonly (readonly [
    title: string,
    service: InferenceService,
    pods: readonly ObservedPod[],
    expected: Expected,
  ])[] = [
    [
      "a service that was just made",
      aService(),
      [],
      {
        phase: "Pending",
        Accepted: "True Valid",
        Ready: "False Pending",
        Available: "False FewerReplicas",
        Progressing: "True Scaling",
        ScalingActive: "True Fresh",
        Degraded: "False None",
      },
    ],
    [
      "one that loads",
      aService(),
      two(loading, { ready: false }),
      {
        phase: "Loading",
        Ready: "False Loading",
        Progressing: "True Scaling",
        Degraded: "False None",
      },
    ],
    [
      "one that serves with all replicas",
      aService(),
      two({}, {}),
      {
        phase: "Serving",
        Ready: "True Serving",
        Available: "True MinimumReplicas",
        Progressing: "False Settled",
        Degraded: "False None",
      },
    ],
    [
      "one that grows: it stays ready",
      aService(),
      two({}, loading),
      { phase: "Serving", Ready: "True Serving", Available: "False FewerReplicas" },
    ],
    [
      "one of whose pods crashes",
      aService(),
      two({}, crashed),
      { phase: "Degraded", Ready: "True Serving", Degraded: "True ChecksumMismatch" },
    ],
    [
      "one whose only pod crashes",
      aService(),
      two(crashed, loading),
      { phase: "Failed", Ready: "False ChecksumMismatch", Degraded: "True ChecksumMismatch" },
    ],
    [
      "one without room",
      aService(),
      two(unplaced, unplaced),
      { phase: "Pending", Ready: "False InsufficientGPU", Degraded: "True InsufficientGPU" },
    ],
    [
      "a rollout under way",
      aService(),
      [...two(old, old), aPod("c", loading)],
      { phase: "Serving", Ready: "True Serving", Progressing: "True RollingOut" },
    ],
    [
      "a rollout that does not start",
      aService(),
      [...two(old, old), aPod("c", crashed)],
      {
        phase: "Degraded",
        Ready: "True Serving",
        Available: "True MinimumReplicas",
        Progressing: "False RolloutStalled",
        Degraded: "True ChecksumMismatch",
      },
    ],
    [
      "a rollout that exchanges pods where there is no room",
      aService(),
      [...two(old, old), aPod("c", unplaced)],
      { phase: "Degraded", Progressing: "True RollingOut", Degraded: "True InsufficientGPU" },
    ],
    [
      "one that is suspended but drains",
      aService({ suspend: true }),
      two(leaving, leaving),
      {
        phase: "Draining",
        Ready: "False Draining",
        Available: "False FewerReplicas",
        Progressing: "True Scaling",
      },
    ],
    [
      "one that is suspended",
      aService({ suspend: true }),
      [],
      { phase: "Suspended", Ready: "False Suspended", Progressing: "False Settled" },
    ],
    [
      "one that is deleted",
      aService({}, { metadata: { name: "granite", deletionTimestamp: noon.toISOString() } }),
      two(leaving, leaving),
      { phase: "Draining", Ready: "False Draining" },
    ],
    [
      "one scaled to nothing by hand",
      aService({ scaling: { mode: "Static" }, replicas: 0 }),
      [],
      {
        phase: "Suspended",
        Ready: "False ScaledToZero",
        Available: "False FewerReplicas",
        ScalingActive: "False ReplicasGiven",
      },
    ],
    [
      "one whose policy does not exist",
      aService({ scaling: { mode: "Auto", policyRef: { name: "gold" } } }),
      two({}, {}),
      { phase: "Serving", ScalingActive: "False PolicyNotFound" },
    ],
  ];
  for (const [title, service, pods, expected] of cases) {
    it(`of ${title}`, () => {
      const status = statusOf(service, aReport(service, pods), undefined, noon);

      const said: Expected = { phase: status.phase ?? "" };
      for (const { type, status: holds, reason } of status.conditions ?? []) {
        said[type] = `${holds} ${reason}`;
      }
      assert.deepEqual({ ...said, ...expected }, said);
      assert.equal(status.conditions?.length, 6);
    });
  }
});

describe("the Ready message", () => {
  const cases: readonly (readonly [string, readonly ObservedPod[], string])[] = [
    ["counts", [aPod("a"), aPod("b")], "2/2 replicas serving"],
    ["is short before there are pods", [], "0/2 replicas serving"],
    ["says how far a pod is", [aPod("a", loading)], "pod a: Loading 50% of 2.0 MB"],
    [
      "says what ails a pod beside those that serve",
      [aPod("a"), aPod("b", crashed)],
      "1/2 replicas serving; pod b: the engine ended, restarted 3 times: wrong file. Fetch it again.",
    ],
  ];
  for (const [title, pods, message] of cases) {
    it(title, () => {
      const status = statusOf(aService(), aReport(aService(), pods), undefined, noon);

      assert.equal(conditionOf(status, "Ready")?.message, message);
    });
  }

  it("counts what is left of a service that ends", () => {
    const service = aService({ suspend: true });
    const message = (pods: readonly ObservedPod[]) =>
      conditionOf(statusOf(service, aReport(service, pods), undefined, noon), "Ready")?.message;

    assert.equal(message([aPod("a", leaving)]), "1 pod left; pod a: finishing 1 request");
    assert.equal(message([]), "no pods");
  });
});

describe("ScalingActive", () => {
  const cases: readonly (readonly [Partial<ScalingDecision>, string])[] = [
    [{}, "True Fresh"],
    [{ boundBy: "MinReplicas" }, "True Fresh"],
    [{ boundBy: "MaxReplicas" }, "True AtMaxReplicas"],
    [{ boundBy: "Policy" }, "True PolicyLimited"],
    [{ boundBy: "Capacity" }, "True CapacityLimited"],
    [{ fresh: false }, "False MetricsStale"],
  ];
  for (const [fields, expected] of cases) {
    it(`is ${expected} for ${JSON.stringify(fields)}`, () => {
      const decision = aDecision(fields);
      const status = statusOf(aService(), aReport(aService(), [], decision), undefined, noon);
      const condition = conditionOf(status, "ScalingActive");

      assert.equal(`${condition?.status} ${condition?.reason}`, expected);
      assert.equal(condition?.message, "demand");
    });
  }

  it("is unknown before the autoscaler decided", () => {
    const { decision: _, ...rest } = aReport(aService(), []);
    const status = statusOf(aService(), { ...rest, decision: undefined }, undefined, noon);

    assert.equal(conditionOf(status, "ScalingActive")?.status, "Unknown");
  });
});
