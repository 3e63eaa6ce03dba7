/** Builders of valid values; a test names only the fields that it is about. */
import type { StartupReport } from "../../engine/contract.ts";
import type { AutoscalingPolicy } from "../api/autoscaling-policy.ts";
import type { InferenceService } from "../api/inference-service.ts";
import { desiredState } from "./desired-state.ts";
import type { ObservedPod } from "./observed-pod.ts";
import { planPods } from "./plan.ts";
import type { ScalingDecision } from "./scaling.ts";
import type { Report } from "./status.ts";

export const noon = new Date("2030-01-01T12:00:00Z");

export function secondsBefore(time: Date, seconds: number): Date {
  return new Date(time.getTime() - 1_000 * seconds);
}

type Spec = InferenceService["spec"];

/** A service as the API server stores it, defaults applied. */
export function aService(
  spec: Partial<Spec> = {},
  rest: Partial<Omit<InferenceService, "spec">> = {},
): InferenceService {
  return {
    apiVersion: "quire.dev/v1alpha1",
    kind: "InferenceService",
    metadata: { name: "granite", namespace: "team-a", generation: 1 },
    spec: {
      model: { uri: "hf://owner/granite" },
      resources: { gpu: { count: 1, resourceName: "nvidia.com/gpu" } },
      parallelism: { tensor: 1 },
      suspend: false,
      scaling: { mode: "Auto" },
      rollout: { strategy: "Auto", maxSurge: 1 },
      drain: { timeout: "300s" },
      service: { port: 80 },
      ...spec,
    },
    ...rest,
  };
}

export function aPolicy(spec: Partial<AutoscalingPolicy["spec"]> = {}): AutoscalingPolicy {
  return {
    apiVersion: "quire.dev/v1alpha1",
    kind: "AutoscalingPolicy",
    metadata: { name: "gold" },
    spec: {
      priority: 0,
      algorithm: { scaleUpAt: "0.85", scaleDownAt: "0.70", staleAfter: "5s" },
      ...spec,
    },
  };
}

/** A pod that serves and idles. */
export function aPod(name: string, fields: Partial<ObservedPod> = {}): ObservedPod {
  return {
    name,
    templateHash: "new",
    ordinal: 0,
    phase: "Running",
    ready: true,
    createdAt: secondsBefore(noon, 600),
    restartCount: 0,
    inFlight: 0,
    ...fields,
  };
}

/** Half of two megabytes into a phase. */
export function startupIn(phase: StartupReport["phase"]): StartupReport {
  return { phase, doneBytes: 1e6, totalBytes: 2e6, message: "" };
}

/** Two replicas, freely chosen. */
export function aDecision(fields: Partial<ScalingDecision> = {}): ScalingDecision {
  return { desiredReplicas: 2, boundBy: "None", reason: "demand", fresh: true, ...fields };
}

/** What a reconcile of this service would see; pods of the hash "new" are current. */
export function aReport(
  service: InferenceService,
  pods: readonly ObservedPod[],
  decision = aDecision(),
): Report {
  const wanted = desiredState(service, undefined, decision);
  const desired = { ...wanted, template: { ...wanted.template, hash: "new" } };
  const plan = planPods(desired, pods, noon);
  return { desired, pods, plan, decision, load: undefined, url: "http://granite" };
}
