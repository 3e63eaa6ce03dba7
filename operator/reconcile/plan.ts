import type { DesiredState } from "./desired-state.ts";
import type { ObservedPod } from "./observed-pod.ts";

/** How to get closer to the desired state. Applied in this order: delete, drain, create. */
export interface PodPlan {
  /** Pods to end now: they answer nothing, or had their time to finish. */
  readonly delete: readonly string[];
  /** Pods to take out of the endpoints and let finish. */
  readonly drain: readonly string[];
  /** Ordinals of pods to create. */
  readonly create: readonly number[];
  /** Nothing left to do or to wait for: every pod is current and ready, and there are enough. */
  readonly settled: boolean;
}

/** What planning needs of the desired state. */
export interface PodGoal extends Pick<DesiredState, "replicas" | "strategy" | "maxSurge"> {
  readonly template: { readonly hash: string; readonly drainTimeoutMs: number };
}

// A count of zero in flight is believed from then on: gateways learn of a draining pod with a delay.
const drainSettleMs = 1_000;
// A pod that finds no place for this long will not find one beside the pods that it replaces.
const surgePatienceMs = 30_000;

/**
 * Chooses the pods to create, drain and delete so that the observed pods move towards the goal.
 *
 * Never drops below `replicas` ready pods on purpose, with two exceptions that the spec asks for:
 * Recreate, and Auto on a cluster that has no room for a new pod beside the old ones. A rollout
 * whose first pod does not become ready stops there. Applying the plan and planning again converges
 * as long as new pods become ready.
 */
export function planPods(goal: PodGoal, pods: readonly ObservedPod[], now: Date): PodPlan {
  const { replicas, template } = goal;
  const active = pods.filter(isActive);
  const current = active.filter((pod) => pod.templateHash === template.hash);
  const outdated = active.filter((pod) => pod.templateHash !== template.hash);

  const remove = removals(goal, pods, current, outdated, now);
  const create = creationCount(goal, pods, current, outdated);
  const ended = pods.filter(
    (pod) => pod.phase === "Failed" || hasDrained(pod, template.drainTimeoutMs, now),
  );
  return {
    delete: [...ended, ...remove.filter((pod) => !mayBeAnswering(pod))].map((pod) => pod.name),
    drain: remove.filter(mayBeAnswering).map((pod) => pod.name),
    create: freeOrdinals(pods, template.hash, create),
    settled:
      pods.length === replicas && current.length === replicas && current.every((pod) => pod.ready),
  };
}

/** Neither leaving nor gone: counts towards the replicas. */
export function isActive(pod: ObservedPod): boolean {
  return isAlive(pod) && pod.drainingSince === undefined;
}

function isAlive(pod: ObservedPod): boolean {
  return pod.phase === "Pending" || pod.phase === "Running";
}

function mayBeAnswering(pod: ObservedPod): boolean {
  return pod.ready || (pod.inFlight ?? 0) > 0;
}

function hasDrained(pod: ObservedPod, timeoutMs: number, now: Date): boolean {
  if (!isAlive(pod) || pod.drainingSince === undefined) return false;
  const drainedMs = now.getTime() - pod.drainingSince.getTime();
  if (pod.phase === "Pending" || drainedMs >= timeoutMs) return true;
  return pod.inFlight === 0 && drainedMs >= drainSettleMs;
}

function removals(
  goal: PodGoal,
  pods: readonly ObservedPod[],
  current: readonly ObservedPod[],
  outdated: readonly ObservedPod[],
  now: Date,
): ObservedPod[] {
  if (goal.strategy === "Recreate") return [...surplusOf(goal, current), ...outdated];
  const surplus = surplusOf(goal, current);
  const readyCount = [...current, ...outdated].filter((pod) => pod.ready).length;
  // A surplus that takes ready pods leaves as many ready ones as replicas: none is counted twice.
  const replaced = takeSpare(outdated, Math.max(0, readyCount - goal.replicas));
  if (replaced.length > 0 || surplus.length > 0) return [...surplus, ...replaced];
  return hasNoRoom(goal, pods, current, now) ? outdated.toSorted(byRemovalOrder).slice(0, 1) : [];
}

function surplusOf({ replicas }: PodGoal, current: readonly ObservedPod[]): ObservedPod[] {
  return current.toSorted(byRemovalOrder).slice(0, Math.max(0, current.length - replicas));
}

/** All pods that are not ready, and as many ready ones as the service can spare. */
function takeSpare(pods: readonly ObservedPod[], spare: number): ObservedPod[] {
  const ordered = pods.toSorted(byRemovalOrder);
  const serving = ordered.filter((pod) => pod.ready);
  return [...ordered.filter((pod) => !pod.ready), ...serving.slice(0, spare)];
}

/**
 * Whether new pods wait for nothing but the place of an old one. Not while a pod is leaving or
 * loading: its place, or its success, is awaited first, so that pods are exchanged one by one.
 */
function hasNoRoom(
  goal: PodGoal,
  pods: readonly ObservedPod[],
  current: readonly ObservedPod[],
  now: Date,
): boolean {
  if (goal.strategy !== "Auto" || !pods.every(isActive)) return false;
  const starting = current.filter((pod) => !pod.ready);
  return starting.length > 0 && starting.every((pod) => isUnplaceable(pod, now));
}

function isUnplaceable(pod: ObservedPod, now: Date): boolean {
  const waitedMs = now.getTime() - pod.createdAt.getTime();
  return pod.unschedulable !== undefined && waitedMs >= surgePatienceMs;
}

function creationCount(
  goal: PodGoal,
  pods: readonly ObservedPod[],
  current: readonly ObservedPod[],
  outdated: readonly ObservedPod[],
): number {
  const missing = goal.replicas - current.length;
  if (missing <= 0) return 0;
  if (goal.strategy === "Recreate") {
    return pods.every((pod) => pod.templateHash === goal.template.hash) ? missing : 0;
  }
  if (!outdated.some((pod) => pod.ready)) return missing;
  // Nobody knows yet whether the new template works: one pod finds out.
  if (!current.some((pod) => pod.ready)) return Math.max(0, 1 - current.length);
  // Leaving pods still hold their GPUs, and `maxSurge` is a promise about those.
  return Math.max(0, Math.min(missing, goal.replicas + goal.maxSurge - pods.length));
}

/** The lowest ordinals that no pod of this template has, not even one on its way out. */
function freeOrdinals(pods: readonly ObservedPod[], hash: string, count: number): number[] {
  const taken = new Set(pods.filter((pod) => pod.templateHash === hash).map((pod) => pod.ordinal));
  const candidates = Array.from({ length: count + taken.size }, (_, ordinal) => ordinal);
  return candidates.filter((ordinal) => !taken.has(ordinal)).slice(0, count);
}

/**
 * Which pod to lose first: one that is not ready costs no capacity, and of those one without a
 * place; then least in flight, then the coldest cache, then the youngest. What is unknown may be
 * much.
 */
function byRemovalOrder(a: ObservedPod, b: ObservedPod): number {
  return (
    Number(a.ready) - Number(b.ready) ||
    Number(a.phase !== "Pending") - Number(b.phase !== "Pending") ||
    ascending(a.inFlight, b.inFlight) ||
    ascending(a.cachedTokens, b.cachedTokens) ||
    b.createdAt.getTime() - a.createdAt.getTime() ||
    (a.name < b.name ? 1 : -1)
  );
}

function ascending(a: number | undefined, b: number | undefined): number {
  if (a === b) return 0;
  return (a ?? Number.POSITIVE_INFINITY) < (b ?? Number.POSITIVE_INFINITY) ? -1 : 1;
}

/** Such as `create 1 pod, drain 2`; empty where the plan does nothing. */
export function describePlan(plan: PodPlan): string {
  const parts = [
    { verb: "create", count: plan.create.length },
    { verb: "drain", count: plan.drain.length },
    { verb: "delete", count: plan.delete.length },
  ];
  return parts
    .filter(({ count }) => count > 0)
    .map(({ verb, count }, i) => `${verb} ${count}${i > 0 ? "" : count === 1 ? " pod" : " pods"}`)
    .join(", ");
}
