import type { InferenceService, InferenceServiceStatus } from "../api/inference-service.ts";
import { podSelector } from "../api/names.ts";
import { type Condition, type Reason, type Statement, updateConditions } from "./conditions.ts";
import type { DesiredState, Scaling } from "./desired-state.ts";
import type { ObservedPod } from "./observed-pod.ts";
import { describePlan, isActive, type PodPlan } from "./plan.ts";
import { type PodCause, podCauses } from "./pod-cause.ts";
import type { ScalingDecision, ServiceLoad } from "./scaling.ts";
import { type Facts, statementsOf, worstTrouble } from "./statements.ts";

/** What one reconcile saw and decided, for the status. */
export interface Report {
  readonly desired: DesiredState;
  readonly pods: readonly ObservedPod[];
  readonly plan: PodPlan;
  readonly decision: ScalingDecision | undefined;
  readonly load: ServiceLoad | undefined;
  readonly url: string;
}

/** Why a reconcile did not come to its end. */
export interface Failure {
  /** `terminal`: only another spec can help. Otherwise it is tried again. */
  readonly terminal: boolean;
  readonly reason: Reason;
  /** The fact and the remedy. */
  readonly message: string;
}

type Status = InferenceServiceStatus;

// The schema's limits.
const maxListedPods = 5;
const maxHistory = 10;

/**
 * The whole status after a reconcile. `failure` is what stopped acting on the plan; a reconcile that
 * failed before it knew anything has no `report`, and keeps the numbers of the status before.
 */
export function statusOf(
  service: InferenceService,
  report: Report | undefined,
  failure: Failure | undefined,
  now: Date,
): Status {
  const previous = service.status ?? {};
  const generation = service.metadata.generation ?? 0;
  const facts = report === undefined ? undefined : factsOf(service, report);
  const failed = failureStatements(failure);
  const statements = (facts === undefined ? [] : statementsOf(facts)).filter(
    ({ type }) => !failed.some((said) => said.type === type),
  );
  const conditions = updateConditions(
    previous.conditions ?? [],
    [...statements, ...failed],
    generation,
    now,
  );
  const rest = report === undefined ? previous : reportedFields(service, report, now);
  const phase = facts === undefined ? (previous.phase ?? "Pending") : phaseOf(facts, failure);
  return { ...rest, observedGeneration: generation, phase, conditions };
}

function factsOf(service: InferenceService, report: Report): Facts {
  const { desired, pods, plan, decision } = report;
  const active = pods.filter(isActive);
  const policyRef = service.spec.scaling.policyRef?.name;
  return {
    suspended: service.spec.suspend,
    deleting: service.metadata.deletionTimestamp !== undefined,
    desired,
    readyCount: active.filter((pod) => pod.ready).length,
    outdatedCount: active.filter((pod) => pod.templateHash !== desired.template.hash).length,
    settled: plan.settled,
    planSummary: describePlan(plan),
    causes: podCauses(pods, desired.template.resources),
    decision,
    missingPolicy: desired.scaling.policyName === undefined ? policyRef : undefined,
  };
}

function failureStatements(failure: Failure | undefined): Statement[] {
  if (failure === undefined) return [];
  const { reason, message } = failure;
  const stopped: Statement = { type: "Progressing", status: "False", reason, message };
  if (!failure.terminal) return [stopped];
  return [{ type: "Accepted", status: "False", reason, message }, stopped];
}

function reportedFields(service: InferenceService, report: Report, now: Date): Status {
  const { desired, pods, load, url } = report;
  const active = pods.filter(isActive);
  const isCurrent = (pod: ObservedPod) => pod.templateHash === desired.template.hash;
  const readyReplicas = active.filter((pod) => pod.ready).length;
  return {
    url,
    replicas: active.length,
    readyReplicas,
    updatedReplicas: active.filter(isCurrent).length,
    drainingReplicas: pods.filter((pod) => pod.drainingSince !== undefined).length,
    display: {
      model: shortModel(service.spec.model.uri),
      replicas: `${readyReplicas}/${desired.replicas}`,
      kv: load === undefined ? "-" : `${Math.round(100 * load.kvCacheUtilization)}%`,
      queue: load === undefined ? "-" : String(load.waitingRequests),
    },
    selector: podSelector(service.metadata.name),
    templateHash: desired.template.hash,
    ...(load === undefined ? {} : { load: loadOf(load) }),
    scaling: scalingOf(service.status?.scaling, desired.scaling, now),
    pods: podCauses(pods, desired.template.resources).slice(0, maxListedPods).map(listedPod),
  };
}

/** The repository of a hub, the file of anything else. */
function shortModel(uri: string): string {
  return uri.startsWith("hf://") ? uri.slice("hf://".length) : uri.replace(/^.*[/#]/, "");
}

function loadOf(load: ServiceLoad): NonNullable<Status["load"]> {
  return {
    kvCacheUtilization: load.kvCacheUtilization.toFixed(2),
    runningRequests: load.runningRequests,
    waitingRequests: load.waitingRequests,
    observedAt: load.observedAt.toISOString(),
  };
}

type ScalingStatus = NonNullable<Status["scaling"]>;

function scalingOf(
  previous: ScalingStatus | undefined,
  { desiredReplicas, mode, boundBy, reason, policyName }: Scaling,
  now: Date,
): ScalingStatus {
  const policy = policyName === undefined ? {} : { appliedPolicy: policyName };
  const chosen = { desiredReplicas, mode, boundBy, reason, ...policy };
  if (previous === undefined) return chosen;
  const { lastScaleTime, history = [] } = previous;
  if (previous.desiredReplicas === desiredReplicas) {
    return { ...chosen, ...(lastScaleTime === undefined ? {} : { lastScaleTime, history }) };
  }
  const time = now.toISOString();
  const change = { time, from: previous.desiredReplicas, to: desiredReplicas, reason };
  return { ...chosen, lastScaleTime: time, history: [change, ...history].slice(0, maxHistory) };
}

function listedPod({ pod, reason, message }: PodCause): NonNullable<Status["pods"]>[number] {
  const phase = pod.drainingSince !== undefined ? "Draining" : (pod.startup?.phase ?? pod.phase);
  const node = pod.node === undefined ? {} : { node: pod.node };
  return { name: pod.name, ...node, phase, reason, message };
}

function phaseOf(facts: Facts, failure: Failure | undefined): NonNullable<Status["phase"]> {
  const { suspended, deleting, readyCount, causes, desired } = facts;
  if (deleting) return "Draining";
  if (suspended) return causes.length > 0 ? "Draining" : "Suspended";
  const trouble = worstTrouble(facts);
  if (readyCount > 0) {
    return trouble !== undefined || failure?.terminal === true ? "Degraded" : "Serving";
  }
  if (trouble?.level === "failing" || failure?.terminal === true) return "Failed";
  if (desired.replicas === 0) return "Suspended";
  return trouble === undefined ? furthestPhase(causes) : "Pending";
}

const startupPhases = ["Warming", "Loading", "Downloading", "Resolving"] as const;

function furthestPhase(causes: readonly PodCause[]): NonNullable<Status["phase"]> {
  const seen = new Set(causes.map(({ pod }) => pod.startup?.phase));
  return startupPhases.find((phase) => seen.has(phase)) ?? "Pending";
}

/** The condition of a type, such as `Ready`. */
export function conditionOf(status: Status | undefined, type: string): Condition | undefined {
  return status?.conditions?.find((condition) => condition.type === type);
}
