import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { desiredState } from "./desired-state.ts";
import type { ScalingDecision } from "./scaling.ts";
import { aPolicy, aService } from "./testing.ts";

const decision: ScalingDecision = {
  desiredReplicas: 3,
  boundBy: "MaxReplicas",
  reason: "demand",
  fresh: true,
};

describe("desiredState in mode Auto", () => {
  it("follows the autoscaler", () => {
    const { replicas, scaling } = desiredState(aService(), undefined, decision);

    assert.equal(replicas, 3);
    assert.deepEqual(scaling, {
      desiredReplicas: 3,
      mode: "Auto",
      boundBy: "MaxReplicas",
      reason: "demand",
      policyName: undefined,
    });
  });

  it("begins with one replica", () => {
    const { replicas, scaling } = desiredState(aService(), undefined, undefined);

    assert.deepEqual([replicas, scaling.boundBy], [1, "MinReplicas"]);
  });

  it("begins with the fewest", () => {
    const service = aService({ scaling: { mode: "Auto", minReplicas: 2 } });

    assert.equal(desiredState(service, undefined, undefined).replicas, 2);
  });

  for (const [known, minReplicas, expected] of [
    [4, 2, 4],
    [2, 2, 2],
    [1, 2, 2],
  ] as const) {
    it(`holds ${known} known replicas of at least ${minReplicas} as ${expected} after a restart`, () => {
      const scaling = {
        desiredReplicas: known,
        mode: "Auto",
        boundBy: "None",
        reason: "",
      } as const;
      const service = aService({ scaling: { mode: "Auto", minReplicas } }, { status: { scaling } });

      assert.equal(desiredState(service, undefined, undefined).replicas, expected);
    });
  }
});

describe("desiredState in the other modes", () => {
  for (const mode of ["Static", "External"] as const) {
    it(`takes spec.replicas in mode ${mode}, whatever the autoscaler said`, () => {
      const service = aService({ scaling: { mode }, replicas: 2 });
      const { replicas, scaling } = desiredState(service, undefined, decision);

      assert.deepEqual([replicas, scaling.mode, scaling.boundBy], [2, mode, "None"]);
      assert.equal(scaling.reason, "set by spec.replicas");
    });
  }

  it("takes 0 as written", () => {
    const service = aService({ scaling: { mode: "Static" }, replicas: 0 });

    assert.equal(desiredState(service, undefined, undefined).replicas, 0);
  });

  it("takes 1 where nothing is written", () => {
    const { replicas, scaling } = desiredState(
      aService({ scaling: { mode: "Static" } }),
      undefined,
      undefined,
    );

    assert.deepEqual([replicas, scaling.reason], [1, "spec.replicas is not set"]);
  });
});

describe("desiredState under a policy", () => {
  const static3 = aService({ scaling: { mode: "Static" }, replicas: 3 });

  it("keeps to its limit in every mode and says so", () => {
    const { replicas, scaling } = desiredState(
      static3,
      aPolicy({ limits: { maxReplicas: 2 } }),
      undefined,
    );

    assert.deepEqual([replicas, scaling.boundBy, scaling.policyName], [2, "Policy", "gold"]);
    assert.equal(scaling.reason, "set by spec.replicas; policy gold allows 2");
  });

  it("is not bound by a limit that it does not reach", () => {
    const { replicas, scaling } = desiredState(
      static3,
      aPolicy({ limits: { maxReplicas: 3 } }),
      undefined,
    );

    assert.deepEqual([replicas, scaling.boundBy], [3, "None"]);
  });
});

describe("desiredState of a service that ends", () => {
  const deleted = { name: "granite", deletionTimestamp: "2030-01-01T12:00:00Z" };
  for (const [title, service] of [
    ["suspended", aService({ suspend: true })],
    ["deleted", aService({}, { metadata: deleted })],
  ] as const) {
    it(`wants no pods while ${title}, and remembers how many there were`, () => {
      const { replicas, scaling } = desiredState(service, undefined, decision);

      assert.deepEqual([replicas, scaling.desiredReplicas], [0, 3]);
    });
  }
});

describe("desiredState", () => {
  it("takes the rollout as written", () => {
    const rollout = { strategy: "Recreate", maxSurge: 4 } as const;
    const { strategy, maxSurge } = desiredState(aService({ rollout }), undefined, undefined);

    assert.deepEqual({ strategy, maxSurge }, rollout);
  });
});
