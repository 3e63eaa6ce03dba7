import type { StartupReport } from "../../engine/contract.ts";
import type { Reason } from "./conditions.ts";
import type { ObservedPod } from "./observed-pod.ts";
import type { PodResources } from "./pod-template.ts";

/** Why a pod does not serve, in words for the service's status. */
export interface PodCause {
  readonly pod: ObservedPod;
  /** `failing`: it ended and will again. `blocked`: it waits for others. Worst first. */
  readonly level: "failing" | "blocked" | "starting" | "draining";
  readonly reason: Reason;
  /** The fact and, where there is one, the remedy. Does not name the pod. */
  readonly message: string;
}

const levels = ["failing", "blocked", "starting", "draining"] as const;

/** The causes of all pods that do not serve, worst first. */
export function podCauses(pods: readonly ObservedPod[], resources: PodResources): PodCause[] {
  return pods
    .map((pod) => podCause(pod, resources))
    .filter((cause) => cause !== undefined)
    .sort(
      (a, b) =>
        levels.indexOf(a.level) - levels.indexOf(b.level) || (a.pod.name < b.pod.name ? -1 : 1),
    );
}

function podCause(pod: ObservedPod, resources: PodResources): PodCause | undefined {
  if (pod.drainingSince !== undefined || pod.phase === "Terminating") return leaving(pod);
  if (pod.ready) return undefined;
  if (pod.restartCount > 0 || pod.termination !== undefined) return crash(pod);
  if (pod.problem !== undefined) return trouble(pod, pod.problem);
  if (pod.unschedulable !== undefined) return unplaced(pod, pod.unschedulable, resources);
  return starting(pod);
}

function leaving(pod: ObservedPod): PodCause {
  const { inFlight } = pod;
  const rest = inFlight === undefined ? "its requests" : counted(inFlight, "request");
  return { pod, level: "draining", reason: "Draining", message: `finishing ${rest}` };
}

/** Error codes of the engine that mean more to a user than that it crashed. */
const reasonOfCode: Readonly<Record<string, Reason>> = {
  MODEL_UNSUPPORTED: "UnsupportedArchitecture",
  MODEL_SOURCE_FAILED: "DownloadFailed",
  CHECKSUM_MISMATCH: "ChecksumMismatch",
  CHECKPOINT_INVALID: "InvalidCheckpoint",
  DEVICE_UNAVAILABLE: "DeviceUnavailable",
  DEVICE_OUT_OF_MEMORY: "InsufficientMemory",
  // Not the engine's own: the kernel ended it before it could say anything.
  MEMORY_LIMIT_EXCEEDED: "InsufficientMemory",
};

function crash(pod: ObservedPod): PodCause {
  const { termination, restartCount } = pod;
  const times = restartCount === 0 ? "ended" : `ended, restarted ${counted(restartCount, "time")}`;
  const message =
    termination === undefined
      ? `the engine ${times} and left no message. Read the pod's log.`
      : `the engine ${times}: ${sentence(termination.message)} ${termination.remedy}`.trimEnd();
  const reason = reasonOfCode[termination?.code ?? ""] ?? "EngineCrashLoop";
  return { pod, level: "failing", reason, message };
}

function trouble(pod: ObservedPod, problem: NonNullable<ObservedPod["problem"]>): PodCause {
  const level = problem.reason === "EngineUnhealthy" ? "failing" : "blocked";
  return { pod, level, reason: problem.reason, message: problem.message };
}

function unplaced(pod: ObservedPod, why: string, resources: PodResources): PodCause {
  const { gpuCount, gpuResourceName } = resources;
  // The scheduler names the resource that it lacks.
  const lacksGpu = gpuCount > 0 && /gpu/i.test(why);
  const remedy = lacksGpu
    ? `Free ${gpuCount} ${gpuResourceName} on one machine or add one, or set spec.resources.gpu.count to 0 to compute on the processor.`
    : "Free or add room, or lower spec.resources.";
  const reason = lacksGpu ? "InsufficientGPU" : "Unschedulable";
  return { pod, level: "blocked", reason, message: `no place: ${sentence(why)} ${remedy}` };
}

function starting(pod: ObservedPod): PodCause {
  const { startup } = pod;
  if (startup === undefined) {
    const placed = pod.phase === "Running";
    return placed
      ? { pod, level: "starting", reason: "Starting", message: "the engine is starting" }
      : { pod, level: "starting", reason: "Pending", message: "waiting for a machine" };
  }
  if (startup.phase === "Failed") {
    return { pod, level: "failing", reason: "EngineCrashLoop", message: startup.message };
  }
  if (startup.phase === "Serving") {
    const message = "the engine loaded its model but does not answer as ready";
    return { pod, level: "starting", reason: "Starting", message };
  }
  return { pod, level: "starting", reason: startup.phase, message: progress(startup) };
}

function progress({ phase, doneBytes, totalBytes, message }: StartupReport): string {
  const share = totalBytes > 0 ? ` ${Math.floor((100 * doneBytes) / totalBytes)}%` : "";
  const bytes = totalBytes > 0 ? ` of ${megabytes(totalBytes)}` : "";
  return `${phase}${share}${bytes}${message === "" ? "" : `: ${message}`}`;
}

function megabytes(bytes: number): string {
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

/** `1 request`, `2 requests`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
