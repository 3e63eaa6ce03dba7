import type { Reason, Statement } from "./conditions.ts";
import type { DesiredState } from "./desired-state.ts";
import { counted, type PodCause } from "./pod-cause.ts";
import type { ScalingDecision } from "./scaling.ts";

/** The facts that the conditions are about. */
export interface Facts {
  readonly suspended: boolean;
  readonly deleting: boolean;
  readonly desired: DesiredState;
  readonly readyCount: number;
  /** Pods of another template that are not leaving yet. */
  readonly outdatedCount: number;
  readonly settled: boolean;
  /** What the plan does, or empty. */
  readonly planSummary: string;
  /** Worst first. */
  readonly causes: readonly PodCause[];
  readonly decision: ScalingDecision | undefined;
  /** `spec.scaling.policyRef` names a policy that does not exist. */
  readonly missingPolicy: string | undefined;
}

export function statementsOf(facts: Facts): Statement[] {
  return [
    { type: "Accepted", status: "True", reason: "Valid", message: "the spec can be served" },
    ready(facts),
    available(facts),
    progressing(facts),
    scalingActive(facts),
    degraded(facts),
  ];
}

/** True while at least one replica answers, so that adding replicas does not make it false. */
function ready(facts: Facts): Statement {
  const { readyCount, desired, causes } = facts;
  const type = "Ready";
  const serving = `${readyCount}/${counted(desired.replicas, "replica")} serving`;
  const [worst] = causes;
  const cause = worst === undefined ? "" : causeText(worst);
  if (ends(facts)) {
    const left = causes.length === 0 ? "no pods" : `${counted(causes.length, "pod")} left`;
    const message = cause === "" ? left : `${left}; ${cause}`;
    return { type, status: "False", reason: endReason(facts), message };
  }
  if (readyCount > 0) {
    const message = cause === "" ? serving : `${serving}; ${cause}`;
    return { type, status: "True", reason: "Serving", message };
  }
  if (desired.replicas === 0) {
    const message = "spec.replicas is 0; set it to 1 or more to serve";
    return { type, status: "False", reason: "ScaledToZero", message };
  }
  const reason = worst?.reason ?? "Pending";
  return { type, status: "False", reason, message: cause === "" ? serving : cause };
}

function available({ readyCount, desired }: Facts): Statement {
  const enough = readyCount >= desired.replicas && desired.replicas > 0;
  return {
    type: "Available",
    status: enough ? "True" : "False",
    reason: enough ? "MinimumReplicas" : "FewerReplicas",
    message: `${readyCount} of ${counted(desired.replicas, "replica")} ready`,
  };
}

function progressing(facts: Facts): Statement {
  const type = "Progressing";
  if (facts.settled) {
    return { type, status: "False", reason: "Settled", message: "nothing left to do" };
  }
  const trouble = worstTrouble(facts);
  if (facts.outdatedCount > 0 && trouble !== undefined && facts.planSummary === "") {
    const kept = `${counted(facts.outdatedCount, "older pod")} kept`;
    const message = `${kept}; ${causeText(trouble)}`;
    return { type, status: "False", reason: "RolloutStalled", message };
  }
  const reason = facts.outdatedCount > 0 ? "RollingOut" : "Scaling";
  const waits = `waiting for ${counted(facts.causes.length, "pod")}`;
  return { type, status: "True", reason, message: facts.planSummary || waits };
}

const reasonOfBound: Readonly<Record<ScalingDecision["boundBy"], Reason>> = {
  None: "Fresh",
  MinReplicas: "Fresh",
  MaxReplicas: "AtMaxReplicas",
  Policy: "PolicyLimited",
  Capacity: "CapacityLimited",
};

function scalingActive({ desired, decision, missingPolicy }: Facts): Statement {
  const type = "ScalingActive";
  const { mode, boundBy, reason: message } = desired.scaling;
  if (missingPolicy !== undefined) {
    const text = `spec.scaling.policyRef names "${missingPolicy}", which does not exist: create it or remove policyRef`;
    return { type, status: "False", reason: "PolicyNotFound", message: text };
  }
  if (mode !== "Auto") return { type, status: "False", reason: "ReplicasGiven", message };
  if (decision === undefined) return { type, status: "Unknown", reason: "NotMeasured", message };
  if (!decision.fresh) return { type, status: "False", reason: "MetricsStale", message };
  return { type, status: "True", reason: reasonOfBound[boundBy], message };
}

function degraded(facts: Facts): Statement {
  const trouble = worstTrouble(facts);
  return trouble === undefined
    ? { type: "Degraded", status: "False", reason: "None", message: "no pod is in trouble" }
    : { type: "Degraded", status: "True", reason: trouble.reason, message: causeText(trouble) };
}

/** The worst pod that needs someone to act. */
export function worstTrouble({ causes }: Pick<Facts, "causes">): PodCause | undefined {
  return causes.find(({ level }) => level === "failing" || level === "blocked");
}

export function causeText({ pod, message }: PodCause): string {
  return `pod ${pod.name}: ${message}`;
}

function ends({ suspended, deleting }: Facts): boolean {
  return suspended || deleting;
}

function endReason({ suspended, deleting, causes }: Facts): Reason {
  return deleting || (suspended && causes.length > 0) ? "Draining" : "Suspended";
}
