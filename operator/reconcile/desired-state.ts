import type { AutoscalingPolicy } from "../api/autoscaling-policy.ts";
import type { InferenceService } from "../api/inference-service.ts";
import { type PodTemplate, podTemplate } from "./pod-template.ts";
import type { ScalingDecision } from "./scaling.ts";

/** What should be: a pure function of the spec and of who chooses the number of replicas. */
export interface DesiredState {
  /** 0 while the service is suspended or being deleted. */
  readonly replicas: number;
  readonly template: PodTemplate;
  readonly strategy: "Auto" | "RollingUpdate" | "Recreate";
  /** Pods beyond `replicas` while outdated ones are replaced; at least 1. */
  readonly maxSurge: number;
  readonly scaling: Scaling;
}

/** Why there should be that many replicas; they stay so while the service is suspended. */
export interface Scaling {
  readonly desiredReplicas: number;
  readonly mode: "Auto" | "External" | "Static";
  readonly boundBy: ScalingDecision["boundBy"];
  readonly reason: string;
  readonly policyName: string | undefined;
}

/**
 * @param policy the AutoscalingPolicy in force
 * @param decision the autoscaler's last; without one, the number in the status holds
 */
export function desiredState(
  service: InferenceService,
  policy: AutoscalingPolicy | undefined,
  decision: ScalingDecision | undefined,
): DesiredState {
  const { spec, metadata } = service;
  const scaling = {
    ...withinPolicy(chosenScaling(service, decision), policy),
    policyName: policy?.metadata.name,
  };
  const ends = spec.suspend || metadata.deletionTimestamp !== undefined;
  return {
    replicas: ends ? 0 : scaling.desiredReplicas,
    template: podTemplate(service),
    strategy: spec.rollout.strategy,
    maxSurge: spec.rollout.maxSurge,
    scaling,
  };
}

type Choice = Omit<Scaling, "policyName">;

function chosenScaling(service: InferenceService, decision: ScalingDecision | undefined): Choice {
  const { scaling, replicas } = service.spec;
  const { mode } = scaling;
  if (mode !== "Auto") {
    const reason = replicas === undefined ? "spec.replicas is not set" : "set by spec.replicas";
    return { desiredReplicas: replicas ?? 1, mode, boundBy: "None", reason };
  }
  if (decision !== undefined) {
    const { desiredReplicas, boundBy, reason } = decision;
    return { desiredReplicas, mode, boundBy, reason };
  }
  const minReplicas = scaling.minReplicas ?? 1;
  const known = service.status?.scaling?.desiredReplicas;
  return known === undefined || known < minReplicas
    ? { desiredReplicas: minReplicas, mode, boundBy: "MinReplicas", reason: "nothing measured yet" }
    : {
        desiredReplicas: known,
        mode,
        boundBy: "None",
        reason: "held: the autoscaler just started",
      };
}

function withinPolicy(choice: Choice, policy: AutoscalingPolicy | undefined): Choice {
  const limit = policy?.spec.limits?.maxReplicas;
  if (policy === undefined || limit === undefined || choice.desiredReplicas <= limit) return choice;
  const reason = `${choice.reason}; policy ${policy.metadata.name} allows ${limit}`;
  return { ...choice, desiredReplicas: limit, boundBy: "Policy", reason };
}
