import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { ObservedPod } from "./observed-pod.ts";
import { type PodCause, podCauses } from "./pod-cause.ts";
import type { PodResources } from "./pod-template.ts";
import { aPod, noon } from "./testing.ts";

const resources: PodResources = {
  gpuCount: 2,
  gpuResourceName: "nvidia.com/gpu",
  gpuProducts: [],
  requests: {},
  limits: {},
};

describe("podCauses", () => {
  const cases: readonly (readonly [
    title: string,
    pod: Partial<ObservedPod>,
    level: PodCause["level"],
    reason: PodCause["reason"],
    message: RegExp,
  ])[] = [
    [
      "waits for a machine",
      { phase: "Pending", ready: false },
      "starting",
      "Pending",
      /^waiting for a machine$/,
    ],
    ["starts", { ready: false }, "starting", "Starting", /^the engine is starting$/],
    [
      "downloads, with share and size",
      { ready: false, startup: report("Downloading", 34.4e6, 92.9e6) },
      "starting",
      "Downloading",
      /^Downloading 37% of 92\.9 MB$/,
    ],
    [
      "loads gigabytes, with the engine's own words",
      { ready: false, startup: report("Loading", 6e9, 16e9, "shard 3 of 8") },
      "starting",
      "Loading",
      /^Loading 37% of 16\.0 GB: shard 3 of 8$/,
    ],
    [
      "resolves without counting bytes",
      { ready: false, startup: report("Resolving", 0, 0) },
      "starting",
      "Resolving",
      /^Resolving$/,
    ],
    [
      "warms",
      { ready: false, startup: report("Warming", 0, 0) },
      "starting",
      "Warming",
      /^Warming$/,
    ],
    [
      "loaded but does not answer",
      { ready: false, startup: report("Serving", 0, 0) },
      "starting",
      "Starting",
      /does not answer as ready/,
    ],
    [
      "failed to start but still runs",
      { ready: false, startup: report("Failed", 0, 0, "no tokenizer") },
      "failing",
      "EngineCrashLoop",
      /^no tokenizer$/,
    ],
    [
      "cannot have its GPUs",
      { phase: "Pending", ready: false, unschedulable: "0/3 nodes: Insufficient nvidia.com/gpu" },
      "blocked",
      "InsufficientGPU",
      /^no place: 0\/3 nodes: Insufficient nvidia\.com\/gpu\. Free 2 nvidia\.com\/gpu .*gpu\.count to 0/,
    ],
    [
      "cannot have its memory",
      { phase: "Pending", ready: false, unschedulable: "Insufficient memory." },
      "blocked",
      "Unschedulable",
      /^no place: Insufficient memory\. Free or add room/,
    ],
    [
      "cannot pull its image",
      { phase: "Pending", ready: false, problem: { reason: "ImagePullFailed", message: "denied" } },
      "blocked",
      "ImagePullFailed",
      /^denied$/,
    ],
    [
      "is unhealthy",
      { ready: false, problem: { reason: "EngineUnhealthy", message: "no step for 60 s" } },
      "failing",
      "EngineUnhealthy",
      /^no step for 60 s$/,
    ],
    [
      "has no memory for its model, with both numbers of the plan",
      {
        ready: false,
        restartCount: 2,
        termination: {
          code: "DEVICE_OUT_OF_MEMORY",
          message: "weights and workspace need 17179869184 bytes, 8589934592 are available",
          remedy: "Use a smaller model.",
        },
        startup: report("Loading", 1, 2),
      },
      "failing",
      "InsufficientMemory",
      /^the engine ended, restarted 2 times: weights .*17179869184 .*8589934592 are available\. Use a smaller model\.$/,
    ],
    [
      "ended for the first time",
      { ready: false, termination: { code: "DEVICE_FAILED", message: "Xid 79.", remedy: "" } },
      "failing",
      "EngineCrashLoop",
      /^the engine ended: Xid 79\.$/,
    ],
    [
      "ends without a word",
      { ready: false, restartCount: 1 },
      "failing",
      "EngineCrashLoop",
      /^the engine ended, restarted 1 time and left no message\. Read the pod's log\.$/,
    ],
    [
      "leaves",
      { ready: false, drainingSince: noon, inFlight: 2 },
      "draining",
      "Draining",
      /^finishing 2 requests$/,
    ],
    [
      "leaves, whatever else it had",
      { ready: false, phase: "Terminating", restartCount: 3, inFlight: 1 },
      "draining",
      "Draining",
      /^finishing 1 request$/,
    ],
  ];
  for (const [title, fields, level, reason, message] of cases) {
    it(`tells of a pod that ${title}`, () => {
      const [cause, ...others] = podCauses([aPod("a", fields)], resources);

      assert.deepEqual([cause?.level, cause?.reason, others], [level, reason, []]);
      assert.match(cause?.message ?? "", message);
    });
  }

  const codes: readonly (readonly [string, PodCause["reason"]])[] = [
    ["MODEL_UNSUPPORTED", "UnsupportedArchitecture"],
    ["MODEL_SOURCE_FAILED", "DownloadFailed"],
    ["CHECKSUM_MISMATCH", "ChecksumMismatch"],
    ["CHECKPOINT_INVALID", "InvalidCheckpoint"],
    ["DEVICE_UNAVAILABLE", "DeviceUnavailable"],
    ["CONFIG_INVALID", "EngineCrashLoop"],
  ];
  for (const [code, reason] of codes) {
    it(`calls the engine's ${code} ${reason}`, () => {
      const termination = { code, message: "fact", remedy: "remedy" };
      const [cause] = podCauses([aPod("a", { ready: false, termination })], resources);

      assert.equal(cause?.reason, reason);
    });
  }

  it("says nothing of a pod that serves, even if it once ended", () => {
    assert.deepEqual(podCauses([aPod("a", { restartCount: 3 })], resources), []);
  });

  it("blames no GPU where none was asked for", () => {
    const pod = aPod("a", {
      phase: "Pending",
      ready: false,
      unschedulable: "gpu-node is cordoned",
    });

    assert.equal(podCauses([pod], { ...resources, gpuCount: 0 })[0]?.reason, "Unschedulable");
  });

  it("puts the worst first, then orders by name", () => {
    const pods = [
      aPod("leaving", { ready: false, drainingSince: noon }),
      aPod("starting-b", { ready: false }),
      aPod("starting-a", { ready: false }),
      aPod("blocked", { ready: false, phase: "Pending", unschedulable: "full" }),
      aPod("failing", { ready: false, restartCount: 1 }),
    ];

    assert.deepEqual(
      podCauses(pods, resources).map(({ pod }) => pod.name),
      ["failing", "blocked", "starting-a", "starting-b", "leaving"],
    );
  });

  it("does not know how many requests a silent pod has", () => {
    const { inFlight: _, ...pod } = aPod("a", { drainingSince: noon, ready: false });

    assert.equal(podCauses([pod], resources)[0]?.message, "finishing its requests");
  });
});

function report(
  phase: NonNullable<ObservedPod["startup"]>["phase"],
  doneBytes: number,
  totalBytes: number,
  message = "",
): NonNullable<ObservedPod["startup"]> {
  return { phase, doneBytes, totalBytes, message };
}
