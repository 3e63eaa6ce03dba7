import type { InferenceService, InferenceServiceStatus } from "../api/inference-service.ts";
import type { Reason } from "./conditions.ts";
import { describePlan, type PodPlan } from "./plan.ts";
import { conditionOf } from "./status.ts";

/** Something that happened to a service, for people: a Kubernetes event, or a line of `quire up`. */
export interface ServiceEvent {
  readonly type: "Normal" | "Warning";
  readonly reason: Reason;
  readonly message: string;
}

type Status = InferenceServiceStatus;

/** What happened between two statuses: nothing where nothing changed but numbers. */
export function eventsOf(
  { status: before }: InferenceService,
  after: Status,
  plan: PodPlan | undefined,
): ServiceEvent[] {
  const events = [
    scaled(before, after),
    acted(after, plan),
    changed(before, after, "Accepted", "False"),
    changed(before, after, "Progressing", "False", ["RolloutStalled", "ReconcileFailed"]),
    changed(before, after, "ScalingActive", "False", ["MetricsStale", "PolicyNotFound"]),
    readiness(before, after),
    changed(before, after, "Degraded", "True"),
  ].filter((event) => event !== undefined);
  // A pod's trouble is often the reason of several conditions: it is told once.
  return events.filter(
    (event, i) => events.findIndex(({ reason }) => reason === event.reason) === i,
  );
}

function scaled(before: Status | undefined, after: Status): ServiceEvent | undefined {
  const [from, to] = [before?.scaling?.desiredReplicas, after.scaling?.desiredReplicas];
  if (from === undefined || to === undefined || from === to) return undefined;
  const message = `${from} → ${to} replicas: ${after.scaling?.reason ?? ""}`;
  return { type: "Normal", reason: "Scaling", message };
}

function acted(after: Status, plan: PodPlan | undefined): ServiceEvent | undefined {
  const summary = plan === undefined ? "" : describePlan(plan);
  if (summary === "") return undefined;
  const reason = conditionOf(after, "Progressing")?.reason;
  const rolling = reason === "RollingOut";
  return { type: "Normal", reason: rolling ? "RollingOut" : "Scaling", message: summary };
}

/** A warning when a condition takes a bad status, or another reason for it. */
function changed(
  before: Status | undefined,
  after: Status,
  type: string,
  bad: "True" | "False",
  among?: readonly string[],
): ServiceEvent | undefined {
  const now = conditionOf(after, type);
  const then = conditionOf(before, type);
  if (now?.status !== bad || (then?.status === bad && then.reason === now.reason)) return undefined;
  if (among !== undefined && !among.includes(now.reason)) return undefined;
  return { type: "Warning", reason: now.reason as Reason, message: now.message };
}

function readiness(before: Status | undefined, after: Status): ServiceEvent | undefined {
  const now = conditionOf(after, "Ready");
  const then = conditionOf(before, "Ready");
  if (now === undefined || (then?.status === now.status && then.reason === now.reason)) {
    return undefined;
  }
  const lost = then?.status === "True" && now.status === "False" && now.reason !== "Draining";
  const type = lost ? "Warning" : "Normal";
  return { type, reason: now.reason as Reason, message: now.message };
}
