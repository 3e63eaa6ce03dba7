import type { StartupReport, TerminationMessage } from "../../engine/contract.ts";

/**
 * `Pending`: not placed or not started. `Running`: its process runs, ready or not, or waits to be
 * restarted. `Failed`: ended and will not be restarted. `Terminating`: deleted but not gone, so its
 * name and its GPU are still taken.
 */
export type PodPhase = "Pending" | "Running" | "Failed" | "Terminating";

/** What a cluster tells of one pod: a Kubernetes Pod, or a process of `quire up`. */
export interface ObservedPod {
  /** `<service>-<templateHash>-<ordinal>`, see `podName`. */
  readonly name: string;
  readonly templateHash: string;
  readonly ordinal: number;
  readonly phase: PodPhase;
  /** Answers requests: `enginePaths.ready` says yes. A draining pod is not ready. */
  readonly ready: boolean;
  readonly createdAt: Date;
  /** When the pod was told to take no new requests; absent while it takes them. */
  readonly drainingSince?: Date;
  /** Times that the engine was started again after it ended. */
  readonly restartCount: number;
  /** The engine's last answer to `enginePaths.startup`; absent before the first. */
  readonly startup?: StartupReport;
  /** What the engine left behind when it last ended; absent if it never ended or left nothing. */
  readonly termination?: TerminationMessage;
  /** Requests that the pod is answering, 0 while its engine does not run; absent when unknown. */
  readonly inFlight?: number;
  /** Tokens of its prefix cache, lost with the pod; absent when unknown. */
  readonly cachedTokens?: number;
  /** Why the cluster cannot place the pod, in the scheduler's words; absent once it is placed. */
  readonly unschedulable?: string;
  /** Other trouble that the cluster knows of, such as a pull that fails; absent when there is none. */
  readonly problem?: PodProblem;
  /** Machine that the pod runs on; absent before it is placed. */
  readonly node?: string;
}

/** Trouble that neither the scheduler nor the engine could report themselves. */
export interface PodProblem {
  readonly reason:
    | "ImagePullFailed"
    | "ContainerNotCreated"
    | "QuotaExceeded"
    | "NodeLost"
    | "EngineUnhealthy"
    | "DownloadStalled"
    | "LoadStalled";
  readonly message: string;
}
