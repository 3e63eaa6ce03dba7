/** What a kubelet reports about a pod: types that are read, and the status that is written. */
import type { KubeObject } from "./kube-api.ts";

export interface Pod extends KubeObject {
  readonly spec: {
    readonly nodeName?: string;
    readonly restartPolicy?: "Always" | "OnFailure" | "Never";
    readonly terminationGracePeriodSeconds?: number;
    readonly readinessGates?: readonly { readonly conditionType: string }[];
    readonly serviceAccountName?: string;
    readonly containers: readonly ContainerSpec[];
    readonly volumes?: readonly Volume[];
  };
  readonly status?: { readonly conditions?: readonly Condition[] };
}

export interface ContainerSpec {
  readonly name: string;
  readonly image: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly EnvVariable[];
  readonly envFrom?: readonly {
    readonly secretRef?: Reference;
    readonly configMapRef?: Reference;
  }[];
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
  readonly terminationMessagePath?: string;
  readonly startupProbe?: Probe;
  readonly readinessProbe?: Probe;
}

interface EnvVariable {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: {
    readonly fieldRef?: { readonly fieldPath: string };
    readonly secretKeyRef?: Reference & { readonly key: string };
  };
}

interface Reference {
  readonly name: string;
  readonly optional?: boolean;
}

export interface Probe {
  readonly httpGet?: { readonly path: string; readonly port: number | string };
  readonly periodSeconds?: number;
}

/** The kinds of sources that are known; `emptyDir` is none of them, and stays empty. */
export interface VolumeSource {
  readonly serviceAccountToken?: { readonly path: string };
  readonly configMap?: Reference;
  /** Projected sources call it `name`, volumes `secretName`. */
  readonly secret?: Partial<Reference> & { readonly secretName?: string };
  readonly downwardAPI?: {
    readonly items: readonly {
      readonly path: string;
      readonly fieldRef?: { readonly fieldPath: string };
    }[];
  };
}

type Volume = VolumeSource & {
  readonly name: string;
  readonly projected?: { readonly sources: readonly VolumeSource[] };
};

interface Condition {
  readonly type: string;
  readonly status: string;
}

/** Times are in milliseconds since the epoch. */
export type ContainerState =
  | { readonly kind: "waiting"; readonly reason: WaitingReason; readonly message?: string }
  | {
      readonly kind: "running";
      readonly sinceMs: number;
      readonly ready: boolean;
      /** How it ended the time before. */
      readonly last: Ending | undefined;
    }
  | { readonly kind: "backoff"; readonly last: Ending }
  | { readonly kind: "ended"; readonly last: Ending };

/** Why a container has not been started. */
export type WaitingReason = "ContainerCreating" | "ImagePullBackOff" | "CreateContainerConfigError";

export interface Ending {
  readonly reason: "Completed" | "Error" | "OOMKilled";
  readonly exitCode: number;
  /** What the container left in its termination log. */
  readonly message: string;
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
}

/** Places that do not change while the pod lives. */
export interface PodPlace {
  readonly address: string;
  readonly nodeAddress: string;
  readonly startedAtMs: number;
}

/** The body of a strategic merge patch of the pod's status; conditions of others stay. */
export function statusPatch(
  pod: Pod,
  place: PodPlace,
  state: ContainerState,
  restartCount: number,
): object {
  const containersReady = state.kind === "running" && state.ready;
  const gatesHold = (pod.spec.readinessGates ?? []).every(({ conditionType }) =>
    pod.status?.conditions?.some(({ type, status }) => type === conditionType && status === "True"),
  );
  const conditions = {
    Initialized: true,
    ContainersReady: containersReady,
    Ready: containersReady && gatesHold,
  };
  return {
    metadata: { uid: pod.metadata.uid },
    status: {
      phase: phaseOf(state),
      hostIP: place.nodeAddress,
      podIP: place.address,
      podIPs: [{ ip: place.address }],
      startTime: time(place.startedAtMs),
      conditions: Object.entries(conditions).map(([type, holds]) => ({
        type,
        status: holds ? "True" : "False",
        ...(holds ? {} : { reason: "ContainersNotReady" }),
      })),
      containerStatuses: pod.spec.containers.map(({ name, image }) => ({
        name,
        image,
        imageID: "",
        ready: containersReady,
        started: containersReady,
        restartCount,
        ...stateFields(state),
      })),
    },
  };
}

function phaseOf(state: ContainerState): string {
  switch (state.kind) {
    case "waiting":
      return "Pending";
    case "ended":
      return state.last.exitCode === 0 ? "Succeeded" : "Failed";
    default:
      return "Running";
  }
}

function stateFields(state: ContainerState): object {
  switch (state.kind) {
    case "waiting": {
      const { reason, message } = state;
      return { state: { waiting: { reason, ...(message === undefined ? {} : { message }) } } };
    }
    case "running":
      return {
        state: { running: { startedAt: time(state.sinceMs) } },
        ...(state.last === undefined ? {} : { lastState: { terminated: terminated(state.last) } }),
      };
    case "backoff":
      return {
        state: {
          waiting: { reason: "CrashLoopBackOff", message: "back-off restarting container" },
        },
        lastState: { terminated: terminated(state.last) },
      };
    case "ended":
      return { state: { terminated: terminated(state.last) } };
  }
}

function terminated({ reason, exitCode, message, startedAtMs, finishedAtMs }: Ending): object {
  const times = { startedAt: time(startedAtMs), finishedAt: time(finishedAtMs) };
  return { reason, exitCode, message, ...times };
}

/** Kubernetes keeps whole seconds. */
function time(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}
