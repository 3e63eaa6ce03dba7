import type { AutoscalingPolicy } from "../api/autoscaling-policy.ts";
import type { InferenceService, InferenceServiceStatus } from "../api/inference-service.ts";
import type { ObservedPod } from "../reconcile/observed-pod.ts";
import type { NewPod } from "../reconcile/pod-template.ts";
import type { ScalingDecision, ServiceLoad } from "../reconcile/scaling.ts";

/** Everything about a service that is not in its own object, at one moment. */
export interface Observation {
  /** Every pod of the service, also those that fail or are being deleted. */
  readonly pods: readonly ObservedPod[];
  /** Every AutoscalingPolicy; which one applies is decided here. */
  readonly policies: readonly AutoscalingPolicy[];
  /** Labels of the service's namespace, for a policy's `namespaceSelector`. */
  readonly namespaceLabels: Readonly<Record<string, string>>;
  /** The autoscaler's last decision; absent until it has decided once since it started. */
  readonly decision?: ScalingDecision;
  /** Absent until an engine has reported. */
  readonly load?: ServiceLoad;
  /** Where clients reach the service, such as `http://granite.team-a.svc`. */
  readonly url: string;
}

/** Something that happened to a service, for people: a Kubernetes event, or a line of `quire up`. */
export interface ServiceEvent {
  readonly type: "Normal" | "Warning";
  /** CamelCase, from the same closed set as the conditions' reasons. */
  readonly reason: string;
  readonly message: string;
}

/**
 * Everything that reconciling asks of the outside. `cluster.ts` implements it with the API server,
 * `operator/local/` with processes.
 */
export interface Cluster {
  /** The service as it stands, schema defaults applied; `undefined` once it is gone. */
  getService(key: string): Promise<InferenceService | undefined>;
  observe(service: InferenceService): Promise<Observation>;
  /** Idempotent: a pod of that name that exists already is a success. */
  createPod(service: InferenceService, pod: NewPod): Promise<void>;
  /**
   * Takes the pod out of the endpoints, then tells it to finish what it is answering. Returns at
   * once; idempotent. `ObservedPod.drainingSince` is set from then on.
   */
  drainPod(service: InferenceService, podName: string): Promise<void>;
  /** Ends a pod whether it has drained or not; a pod that is gone already is a success. */
  deletePod(service: InferenceService, podName: string): Promise<void>;
  /** Replaces the status and publishes the events. Writes nothing when nothing changed. */
  report(
    service: InferenceService,
    status: InferenceServiceStatus,
    events: readonly ServiceEvent[],
  ): Promise<void>;
  /** Lets a service go whose deletion was asked for, once its last pod is gone. */
  release(service: InferenceService): Promise<void>;
}
