import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { InferenceService, InferenceServiceStatus } from "../api/inference-service.ts";
import type { DesiredState } from "../reconcile/desired-state.ts";
import type { ServiceEvent } from "../reconcile/events.ts";
import type { ObservedPod } from "../reconcile/observed-pod.ts";
import { type NewPod, podTemplate } from "../reconcile/pod-template.ts";
import { conditionOf } from "../reconcile/status.ts";
import { aDecision, aPod, aService, noon, secondsBefore } from "../reconcile/testing.ts";
import { TerminalError } from "./errors.ts";
import { type Cluster, type Observation, reconcile } from "./reconcile.ts";

const key = "team-a/granite";
const { hash } = podTemplate(aService());

describe("reconcile", () => {
  it("has nothing to do for a service that is gone", async () => {
    const cluster = new FakeCluster(undefined);

    assert.equal(await reconcile(key, cluster, noon), undefined);
    assert.deepEqual(cluster.calls, []);
  });

  it("creates pods by deterministic names, from one template", async () => {
    const cluster = new FakeCluster(aService());

    await reconcile(key, cluster, noon);

    assert.deepEqual(cluster.calls, [
      `create granite-${hash}-0`,
      `create granite-${hash}-1`,
      "report",
    ]);
    assert.equal(cluster.created[0]?.template.hash, hash);
  });

  it("prepares what stands around the pods before it makes one", async () => {
    const cluster = new FakeCluster(aService());

    await reconcile(key, cluster, noon);

    assert.deepEqual(cluster.prepared, [{ replicas: 2, callsBefore: 0 }]);
  });

  it("makes no second pod when it is repeated from an old view", async () => {
    const cluster = new FakeCluster(aService());

    await reconcile(key, cluster, noon);
    await reconcile(key, cluster, noon);

    assert.equal(new Set(cluster.created.map(({ name }) => name)).size, 2);
  });

  it("reports and asks for nothing once all is settled", async () => {
    const cluster = new FakeCluster(aService(), { pods: [current(0), current(1)] });

    assert.equal(await reconcile(key, cluster, noon), undefined);
    assert.deepEqual(cluster.calls, ["report"]);
    assert.equal(cluster.status?.phase, "Serving");
  });

  it("looks again in a second while a pod loads", async () => {
    const pods = [current(0), current(1, { ready: false })];

    assert.equal(await reconcile(key, new FakeCluster(aService(), { pods }), noon), 1_000);
  });

  it("deletes, then drains, then creates: what ends makes room for what begins", async () => {
    const pods = [
      aPod("old-a", { templateHash: "old" }),
      aPod("old-b", { templateHash: "old" }),
      aPod("old-c", { templateHash: "old", ready: false }),
      current(0),
    ];
    const cluster = new FakeCluster(aService(), {
      pods,
      decision: aDecision({ desiredReplicas: 2 }),
    });
    await reconcile(key, cluster, noon);

    assert.deepEqual(cluster.calls, ["delete old-c", "drain old-b", "report"]);

    const fewer = [
      aPod("failed", { phase: "Failed", ready: false, templateHash: hash, ordinal: 0 }),
    ];
    const second = new FakeCluster(aService(), {
      pods: fewer,
      decision: aDecision({ desiredReplicas: 1 }),
    });
    await reconcile(key, second, noon);

    assert.deepEqual(second.calls, ["delete failed", `create granite-${hash}-1`, "report"]);
  });

  it("tells what it did", async () => {
    const cluster = new FakeCluster(aService());

    await reconcile(key, cluster, noon);

    assert.deepEqual(
      cluster.events.map(({ reason, message }) => `${reason}: ${message}`),
      ["Scaling: create 2 pods", "Pending: 0/2 replicas serving"],
    );
  });

  it("does not tell it again on the next look", async () => {
    const first = new FakeCluster(aService());
    await reconcile(key, first, noon);
    const pods = [0, 1].map((i) => current(i, { ready: false, phase: "Pending" }));
    const service = aService({}, { status: first.status ?? {} });
    const second = new FakeCluster(service, { pods });

    await reconcile(key, second, noon);

    assert.deepEqual(second.events, []);
  });
});

describe("reconcile of a deleted service", () => {
  const deletionTimestamp = noon.toISOString();
  const deleted = aService({}, { metadata: { name: "granite", deletionTimestamp } });

  it("drains its pods first", async () => {
    const cluster = new FakeCluster(deleted, { pods: [current(0)] });

    assert.equal(await reconcile(key, cluster, noon), 1_000);
    assert.deepEqual(cluster.calls, [`drain granite-${hash}-0`, "report"]);
    assert.deepEqual(cluster.prepared, []);
  });

  it("waits for the last to be gone", async () => {
    const leaving = current(0, { phase: "Terminating", ready: false });
    const cluster = new FakeCluster(deleted, { pods: [leaving] });

    assert.equal(await reconcile(key, cluster, noon), 1_000);
    assert.deepEqual(cluster.calls, ["report"]);
  });

  it("lets it go then", async () => {
    const cluster = new FakeCluster(deleted);

    assert.equal(await reconcile(key, cluster, noon), undefined);
    assert.deepEqual(cluster.calls, ["release"]);
  });
});

describe("reconcile that fails", () => {
  it("reports what it saw and throws, so that it is tried again", async () => {
    const error = new Error("connection reset");
    const cluster = new FakeCluster(aService(), { pods: [current(0)] }, { create: error });

    await assert.rejects(reconcile(key, cluster, noon), error);
    assert.equal(cluster.calls.at(-1), "report");
    assert.equal(conditionOf(cluster.status, "Progressing")?.reason, "ReconcileFailed");
    assert.equal(conditionOf(cluster.status, "Progressing")?.message, "connection reset");
    assert.equal(cluster.status?.readyReplicas, 1);
  });

  it("does not claim to have done what failed", async () => {
    const cluster = new FakeCluster(aService(), {}, { create: new Error("connection reset") });

    await assert.rejects(reconcile(key, cluster, noon));
    assert.deepEqual(
      cluster.events.map(({ reason }) => reason),
      ["ReconcileFailed", "Pending"],
    );
  });

  it("reports even if it saw nothing", async () => {
    const error = new Error("no answer");
    const cluster = new FakeCluster(aService(), {}, { observe: error });

    await assert.rejects(reconcile(key, cluster, noon), error);
    assert.deepEqual(cluster.calls, ["report"]);
  });

  it("does not throw what another spec alone can mend, but looks again half a minute later", async () => {
    const error = new TerminalError("pods is forbidden: exceeded quota", {
      reason: "QuotaExceeded",
      remedy: "Ask for more.",
    });
    const cluster = new FakeCluster(aService(), {}, { create: error });

    assert.equal(await reconcile(key, cluster, noon), 30_000);
    const accepted = conditionOf(cluster.status, "Accepted");
    assert.deepEqual([accepted?.status, accepted?.reason], ["False", "QuotaExceeded"]);
    assert.equal(accepted?.message, "pods is forbidden: exceeded quota. Ask for more.");
  });

  it("does not let a deleted service go", async () => {
    const metadata = { name: "granite", deletionTimestamp: noon.toISOString() };
    const cluster = new FakeCluster(aService({}, { metadata }), {}, { observe: new Error("no") });

    await assert.rejects(reconcile(key, cluster, noon));
    assert.deepEqual(cluster.calls, ["report"]);
  });
});

function current(ordinal: number, fields: Partial<ObservedPod> = {}): ObservedPod {
  const createdAt = secondsBefore(noon, 5);
  return aPod(`granite-${hash}-${ordinal}`, { templateHash: hash, ordinal, createdAt, ...fields });
}

/** Remembers what was asked of it, in order. Nothing that it is told to do changes what it shows. */
class FakeCluster implements Cluster {
  readonly calls: string[] = [];
  readonly prepared: { readonly replicas: number; readonly callsBefore: number }[] = [];
  readonly created: NewPod[] = [];
  status: InferenceServiceStatus | undefined;
  events: readonly ServiceEvent[] = [];
  readonly #service: InferenceService | undefined;
  readonly #observation: Observation;
  readonly #failures: { readonly create?: Error; readonly observe?: Error };

  constructor(
    service: InferenceService | undefined,
    observation: Partial<Observation> = {},
    failures: { readonly create?: Error; readonly observe?: Error } = {},
  ) {
    this.#service = service;
    this.#observation = { pods: [], url: "http://x", decision: aDecision(), ...observation };
    this.#failures = failures;
  }

  async getService(): Promise<InferenceService | undefined> {
    return this.#service;
  }

  async observe(): Promise<Observation> {
    if (this.#failures.observe !== undefined) throw this.#failures.observe;
    return this.#observation;
  }

  async prepare(_: InferenceService, { replicas }: DesiredState): Promise<void> {
    this.prepared.push({ replicas, callsBefore: this.calls.length });
  }

  async createPod(_: InferenceService, pod: NewPod): Promise<void> {
    if (this.#failures.create !== undefined) throw this.#failures.create;
    this.calls.push(`create ${pod.name}`);
    this.created.push(pod);
  }

  async drainPod(_: InferenceService, name: string): Promise<void> {
    this.calls.push(`drain ${name}`);
  }

  async deletePod(_: InferenceService, name: string): Promise<void> {
    this.calls.push(`delete ${name}`);
  }

  async report(
    _: InferenceService,
    status: InferenceServiceStatus,
    events: readonly ServiceEvent[],
  ): Promise<void> {
    this.calls.push("report");
    this.status = status;
    this.events = events;
  }

  async release(): Promise<void> {
    this.calls.push("release");
  }
}
