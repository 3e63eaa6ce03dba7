import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type EngineSignals, observedPod } from "./observe-pod.ts";
import type { Pod } from "./pod-manifest.ts";

type Status = NonNullable<Pod["status"]>;
type ContainerStatus = NonNullable<Status["containerStatuses"]>[number];

describe("observedPod", () => {
  it("reads a pod that serves", () => {
    const sample: EngineSignals = { inFlight: 4 };

    assert.deepEqual(observedPod(aPod(serving()), sample), {
      name: "granite-abc-2",
      templateHash: "abc",
      ordinal: 2,
      phase: "Running",
      ready: true,
      createdAt: new Date("2030-01-01T12:00:00Z"),
      restartCount: 0,
      node: "gpu-1",
      inFlight: 4,
    });
  });

  it("does not call a pod ready that was told to leave, though its probe still says so", () => {
    const annotations = { "quire.dev/draining-since": "2030-01-01T12:05:00Z" };
    const pod = observedPod(aPod(serving(), { annotations }), {});

    assert.equal(pod.ready, false);
    assert.deepEqual(pod.drainingSince, new Date("2030-01-01T12:05:00Z"));
    assert.equal(pod.inFlight, undefined, "nobody knows what it is answering");
  });

  it("counts a deleted pod as leaving whatever else it says", () => {
    const pod = observedPod(aPod(serving(), { deletionTimestamp: "2030-01-01T12:05:00Z" }), {});

    assert.deepEqual([pod.phase, pod.ready], ["Terminating", false]);
  });

  const phases = [
    ["Pending", "Pending"],
    ["Running", "Running"],
    ["Succeeded", "Failed"],
    ["Failed", "Failed"],
    ["Unknown", "Pending"],
  ] as const;
  for (const [phase, expected] of phases) {
    it(`reads phase ${phase} as ${expected}`, () => {
      assert.equal(observedPod(aPod({ phase }), {}).phase, expected);
    });
  }

  it("carries the scheduler's words, and none once the pod is placed", () => {
    const condition = { type: "PodScheduled", status: "False", reason: "Unschedulable" };
    const message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.";
    const waiting = aPod({ phase: "Pending", conditions: [{ ...condition, message }] });

    assert.equal(observedPod(waiting, {}).unschedulable, message);
    const placed = aPod({ conditions: [{ type: "PodScheduled", status: "True" }] });
    assert.equal(observedPod(placed, {}).unschedulable, undefined);
    const gated = aPod({ conditions: [{ ...condition, reason: "SchedulingGated" }] });
    assert.equal(observedPod(gated, {}).unschedulable, undefined);
  });

  for (const reason of ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"]) {
    it(`says which image cannot be pulled: ${reason}`, () => {
      const state = { waiting: { reason, message: "not found" } };
      const { problem } = observedPod(aPod(container({ state })), {});

      assert.deepEqual(problem, {
        reason: "ImagePullFailed",
        message: "the image quire:1 cannot be pulled: not found",
      });
    });
  }

  it("says why a container cannot be made, such as for want of its Secret", () => {
    const message = 'secret "hub" not found';
    const state = { waiting: { reason: "CreateContainerConfigError", message } };

    assert.deepEqual(observedPod(aPod(container({ state })), {}).problem, {
      reason: "ContainerNotCreated",
      message: 'the container cannot be started: secret "hub" not found',
    });
  });

  it("sees no trouble in a container that is being made", () => {
    const state = { waiting: { reason: "ContainerCreating" } };
    assert.equal(observedPod(aPod(container({ state })), {}).problem, undefined);
  });

  it("reads the engine's last words, also while it waits to be restarted", () => {
    const words = { code: "MODEL_UNSUPPORTED", message: "no", remedy: "Use another." };
    const terminated = { exitCode: 1, reason: "Error", message: JSON.stringify(words) };
    const state = { waiting: { reason: "CrashLoopBackOff" } };
    const pod = observedPod(
      aPod(container({ state, restartCount: 3, lastState: { terminated } })),
      {},
    );

    assert.deepEqual(pod.termination, words);
    assert.equal(pod.restartCount, 3);
    assert.equal(pod.inFlight, 0, "an engine that does not run answers nothing");
  });

  it("says that the kernel ended it for want of memory", () => {
    const terminated = { exitCode: 137, reason: "OOMKilled" };
    const { termination } = observedPod(aPod(container({ state: { terminated } })), {});

    assert.equal(termination?.code, "MEMORY_LIMIT_EXCEEDED");
    assert.match(termination?.message ?? "", /OOMKilled/);
  });

  const endings = [
    [
      { exitCode: 2, message: "loading\nError: no such file\n" },
      "exit code 2; its log ends with: Error: no such file",
    ],
    [{ exitCode: 139, signal: 11 }, "signal 11"],
    [{ exitCode: 3, message: '{"code": "HALF' }, 'exit code 3; its log ends with: {"code": "HALF'],
    [{ exitCode: 3, message: '{"code":1}' }, 'exit code 3; its log ends with: {"code":1}'],
  ] as const;
  for (const [terminated, message] of endings) {
    it(`tells how it ended: ${message}`, () => {
      const { termination } = observedPod(aPod(container({ state: { terminated } })), {});

      assert.equal(termination?.message, message);
      assert.match(termination?.remedy ?? "", /kubectl logs --previous -n team-a granite-abc-2/);
    });
  }

  it("sees that a pod's node fell silent, and nothing of it where that is explained", () => {
    const conditions = [
      { type: "Ready", status: "False" },
      { type: "ContainersReady", status: "True" },
    ];
    const { problem } = observedPod(aPod({ ...serving(), conditions }), {});
    assert.equal(problem?.reason, "NodeLost");
    assert.match(problem?.message ?? "", /^its node gpu-1 has stopped reporting/);

    const leaving = { deletionTimestamp: "2030-01-01T12:05:00Z" };
    assert.equal(observedPod(aPod({ conditions }, leaving), {}).problem, undefined);
    const gated = aPod({ conditions });
    const readinessGates = [{ conditionType: "x" }];
    assert.equal(
      observedPod({ ...gated, spec: { containers: [], readinessGates } }, {}).problem,
      undefined,
    );
    const loading = [conditions[0], { type: "ContainersReady", status: "False" }];
    const known = loading.filter((condition) => condition !== undefined);
    assert.equal(observedPod(aPod({ conditions: known }), {}).problem, undefined);
  });

  it("prefers what the kubelet knows over what an engine seems to be doing", () => {
    const stalled = { reason: "LoadStalled", message: "no progress" } as const;
    const state = { waiting: { reason: "ErrImagePull", message: "no" } };

    assert.equal(
      observedPod(aPod(container({ state })), { stalled }).problem?.reason,
      "ImagePullFailed",
    );
    assert.deepEqual(observedPod(aPod(container({})), { stalled }).problem, stalled);
  });
});

function aPod(status: Status, metadata: Partial<Pod["metadata"]> = {}): Pod {
  return {
    metadata: {
      name: "granite-abc-2",
      namespace: "team-a",
      uid: "p1",
      creationTimestamp: "2030-01-01T12:00:00Z",
      labels: { "quire.dev/template-hash": "abc", "quire.dev/ordinal": "2" },
      ...metadata,
    },
    spec: { containers: [], nodeName: "gpu-1" },
    status,
  };
}

function serving(): Status {
  const state = { running: { startedAt: "2030-01-01T12:00:01Z" } };
  return { ...container({ state }), conditions: [{ type: "Ready", status: "True" }] };
}

function container(fields: Partial<ContainerStatus>): Status {
  const base = { name: "engine", image: "quire:1", imageID: "", ready: false, restartCount: 0 };
  return { phase: "Running", containerStatuses: [{ ...base, ...fields }] };
}
