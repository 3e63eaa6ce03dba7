import type { V1ContainerState, V1ContainerStatus } from "@kubernetes/client-node";
import type { TerminationMessage } from "../../engine/contract.ts";
import { annotations, labels } from "../api/names.ts";
import type { ObservedPod, PodPhase, PodProblem } from "../reconcile/observed-pod.ts";
import type { Wire } from "../runtime/kubernetes-object.ts";
import { engineContainer, type Pod } from "./pod-manifest.ts";

type ContainerStatus = Wire<V1ContainerStatus>;
type Terminated = NonNullable<Wire<V1ContainerState>["terminated"]>;

/** What an engine said of itself over HTTP. */
export interface EngineSignals {
  readonly startup?: ObservedPod["startup"];
  /** Requests that it computes or that wait in it. */
  readonly inFlight?: number;
  /** Why it is believed to stand still. */
  readonly stalled?: PodProblem;
}

/** What a Pod and its engine tell together. */
export function observedPod(pod: Pod, signals: EngineSignals): ObservedPod {
  const { metadata, spec, status } = pod;
  const container = status?.containerStatuses?.find(({ name }) => name === engineContainer);
  const drainingSince = metadata.annotations?.[annotations.drainingSince];
  return {
    name: metadata.name,
    templateHash: metadata.labels?.[labels.templateHash] ?? "",
    ordinal: Number(metadata.labels?.[labels.ordinal] ?? -1),
    phase: phaseOf(pod),
    ready: isServing(pod),
    createdAt: new Date(metadata.creationTimestamp ?? 0),
    restartCount: container?.restartCount ?? 0,
    ...(drainingSince === undefined ? {} : { drainingSince: new Date(drainingSince) }),
    ...(spec?.nodeName === undefined ? {} : { node: spec.nodeName }),
    ...known({
      termination: terminationOf(pod, container),
      startup: signals.startup,
      inFlight: container?.state?.running === undefined ? 0 : signals.inFlight,
      unschedulable: unschedulableText(pod),
      problem: problemOf(container) ?? lostNode(pod) ?? signals.stalled,
    }),
  };
}

type Known<T> = { readonly [K in keyof T]?: Exclude<T[K], undefined> };

/** The fields that have a value. */
function known<T extends object>(fields: T): Known<T> {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Known<T>;
}

/** Ready, and not told to leave. */
export function isServing(pod: Pod): boolean {
  const { metadata, status } = pod;
  return (
    metadata.deletionTimestamp === undefined &&
    metadata.annotations?.[annotations.drainingSince] === undefined &&
    status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") === true
  );
}

function phaseOf({ metadata, status }: Pod): PodPhase {
  if (metadata.deletionTimestamp !== undefined) return "Terminating";
  if (status?.phase === "Running") return "Running";
  return status?.phase === "Failed" || status?.phase === "Succeeded" ? "Failed" : "Pending";
}

function unschedulableText({ status }: Pod): string | undefined {
  const condition = status?.conditions?.find(({ type }) => type === "PodScheduled");
  return condition?.status === "False" && condition.reason === "Unschedulable"
    ? (condition.message ?? "the scheduler gave no reason")
    : undefined;
}

const pullReasons = ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"];
const createReasons = ["CreateContainerConfigError", "CreateContainerError", "RunContainerError"];

function problemOf(container: ContainerStatus | undefined): PodProblem | undefined {
  const { reason = "", message } = container?.state?.waiting ?? {};
  const text = message ?? reason;
  if (pullReasons.includes(reason)) {
    const what = `the image ${container?.image} cannot be pulled: ${text}`;
    return { reason: "ImagePullFailed", message: what };
  }
  if (createReasons.includes(reason)) {
    const what = `the container cannot be started: ${text}`;
    return { reason: "ContainerNotCreated", message: what };
  }
  return undefined;
}

/**
 * The node controller takes a pod's readiness away, and nothing else, when its node falls silent: the
 * kubelet that could correct the rest is the one that is not heard of.
 */
function lostNode({ metadata, spec, status }: Pod): PodProblem | undefined {
  const is = (wanted: string) => status?.conditions?.find(({ type }) => type === wanted)?.status;
  const isContradiction = is("Ready") === "False" && is("ContainersReady") === "True";
  const isExplained = metadata.deletionTimestamp !== undefined || spec?.readinessGates?.length;
  if (!isContradiction || isExplained) return undefined;
  const message = `its node ${spec?.nodeName} has stopped reporting. Restore the node, or delete the pod to have it replaced.`;
  return { reason: "NodeLost", message };
}

function terminationOf(
  pod: Pod,
  container: ContainerStatus | undefined,
): TerminationMessage | undefined {
  const ended = container?.state?.terminated ?? container?.lastState?.terminated;
  if (ended === undefined) return undefined;
  return parseMessage(ended.message ?? "") ?? describeEnd(pod, ended);
}

function describeEnd(pod: Pod, { reason, exitCode, signal, message }: Terminated) {
  if (reason === "OOMKilled") {
    return {
      code: "MEMORY_LIMIT_EXCEEDED",
      message: "it needed more memory than its limit allows and the kernel ended it (OOMKilled)",
      remedy: "Raise spec.resources.limits.memory, or lower spec.engine.maxModelLen or maxSeqs.",
    };
  }
  const how = signal ? `signal ${signal}` : `exit code ${exitCode}`;
  const last = lastLine(message ?? "");
  return {
    code: "ENGINE_ENDED",
    message: `${how}${last === "" ? "" : `; its log ends with: ${last}`}`,
    remedy: `Read its log: kubectl logs --previous -n ${pod.metadata.namespace} ${pod.metadata.name}.`,
  };
}

const maxLineLength = 300;

function lastLine(text: string): string {
  return (text.trimEnd().split("\n").at(-1) ?? "").slice(0, maxLineLength);
}

function parseMessage(text: string): TerminationMessage | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isTerminationMessage(value) ? value : undefined;
  } catch (error) {
    // An engine that is killed leaves nothing, half a message, or the end of its log.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function isTerminationMessage(value: unknown): value is TerminationMessage {
  if (typeof value !== "object" || value === null) return false;
  const { code, message, remedy } = value as Readonly<Record<string, unknown>>;
  return [code, message, remedy].every((text) => typeof text === "string");
}
