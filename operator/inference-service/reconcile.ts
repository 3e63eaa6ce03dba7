import type { AutoscalingPolicy } from "../api/autoscaling-policy.ts";
import type { InferenceService, InferenceServiceStatus } from "../api/inference-service.ts";
import { type DesiredState, desiredState } from "../reconcile/desired-state.ts";
import { eventsOf, type ServiceEvent } from "../reconcile/events.ts";
import type { ObservedPod } from "../reconcile/observed-pod.ts";
import { type PodPlan, planPods } from "../reconcile/plan.ts";
import { type NewPod, type PodTemplate, podName } from "../reconcile/pod-template.ts";
import type { ScalingDecision, ServiceLoad } from "../reconcile/scaling.ts";
import { type Failure, type Report, statusOf } from "../reconcile/status.ts";
import { TerminalError } from "./errors.ts";

/** Everything about a service that is not in its own object, at one moment. */
export interface Observation {
  /** Every pod of the service, also those that fail or are being deleted. */
  readonly pods: readonly ObservedPod[];
  /** The AutoscalingPolicy in force, see `policyFor`; absent where there is none. */
  readonly policy?: AutoscalingPolicy;
  /** The autoscaler's last decision; absent until it has decided once since it started. */
  readonly decision?: ScalingDecision;
  /** Absent until an engine has reported. */
  readonly load?: ServiceLoad;
  /** Where clients reach the service, such as `http://granite.team-a.svc`. */
  readonly url: string;
}

/**
 * Everything that reconciling asks of the outside. `cluster.ts` implements it with the API server,
 * `operator/local/` with processes. Methods throw `TerminalError` for what only another spec can
 * mend; anything else is tried again.
 */
export interface Cluster {
  /** The service as it stands, schema defaults applied; `undefined` once it is gone. */
  getService(key: string): Promise<InferenceService | undefined>;
  observe(service: InferenceService): Promise<Observation>;
  /** Brings in line what stands around the pods, such as their Service. Never while it is deleted. */
  prepare(service: InferenceService, desired: DesiredState): Promise<void>;
  /** Idempotent: a pod of that name that exists already is a success. */
  createPod(service: InferenceService, pod: NewPod): Promise<void>;
  /**
   * Takes the pod out of the endpoints, then tells it to finish what it is answering. Returns at
   * once; idempotent. `ObservedPod.drainingSince` is set from then on, and the pod is not ready.
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
  /** Lets a service go whose deletion was asked for: its last pod is gone. */
  release(service: InferenceService): Promise<void>;
}

/** How often to look at a service that is not settled: loading and draining raise no event. */
const progressPollMs = 1_000;
/** Rights and quotas change without the service: a refusal is checked this often. */
const terminalRetryMs = 30_000;

/**
 * Observe, plan, act, report. The status is written exactly once, however the rest went.
 *
 * @returns when to look again, in milliseconds; `undefined` to wait for the next change
 * @throws what stopped it, once reported, unless only another spec can help
 */
export async function reconcile(
  key: string,
  cluster: Cluster,
  now: Date,
): Promise<number | undefined> {
  const service = await cluster.getService(key);
  if (service === undefined) return undefined;

  const { report, error } = await movePods(service, cluster, now);
  if (service.metadata.deletionTimestamp !== undefined && report?.pods.length === 0) {
    await cluster.release(service);
    return undefined;
  }
  const failure = error === undefined ? undefined : failureOf(error);
  const status = statusOf(service, report, failure, now);
  const done = failure === undefined ? report?.plan : undefined;
  await cluster.report(service, status, eventsOf(service, status, done));

  if (failure?.terminal === true) return terminalRetryMs;
  if (failure !== undefined) throw error;
  return report === undefined || report.plan.settled ? undefined : progressPollMs;
}

/** As far as it got: a failure while acting still knows what was seen and planned. */
async function movePods(
  service: InferenceService,
  cluster: Cluster,
  now: Date,
): Promise<{ readonly report?: Report; readonly error?: unknown }> {
  let report: Report | undefined;
  try {
    const { pods, policy, decision, load, url } = await cluster.observe(service);
    const desired = desiredState(service, policy, decision);
    const plan = planPods(desired, pods, now);
    report = { desired, pods, plan, decision, load, url };
    if (service.metadata.deletionTimestamp === undefined) await cluster.prepare(service, desired);
    await act(service, cluster, plan, desired.template);
    return { report };
  } catch (error) {
    return report === undefined ? { error } : { report, error };
  }
}

async function act(
  service: InferenceService,
  cluster: Cluster,
  plan: PodPlan,
  template: PodTemplate,
): Promise<void> {
  // What ends makes room for what begins.
  for (const name of plan.delete) await cluster.deletePod(service, name);
  for (const name of plan.drain) await cluster.drainPod(service, name);
  for (const ordinal of plan.create) {
    const name = podName(service.metadata.name, template.hash, ordinal);
    await cluster.createPod(service, { name, ordinal, template });
  }
}

function failureOf(error: unknown): Failure {
  if (error instanceof TerminalError) {
    const message = `${error.message}. ${error.remedy}`;
    return { terminal: true, reason: error.reason, message };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { terminal: false, reason: "ReconcileFailed", message };
}
