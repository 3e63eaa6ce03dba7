/** From a service's spec and the platform's policies to what the autoscaler follows. Pure. */
import type { AutoscalingPolicy } from "../api/autoscaling-policy.ts";
import { durationMs } from "../api/duration.ts";
import type { InferenceService } from "../api/inference-service.ts";
import type { ScalingSettings } from "./policy.ts";

type LabelSelector = NonNullable<AutoscalingPolicy["spec"]["selector"]>;
type Scaling = InferenceService["spec"]["scaling"];
type Labels = Readonly<Record<string, string>>;

/**
 * The policy that holds for a service: the one it names, else of those that select it the one of
 * highest priority, then the first by name. `undefined` where none does.
 */
export function policyFor(
  service: InferenceService,
  policies: readonly AutoscalingPolicy[],
  namespaceLabels: Labels,
): AutoscalingPolicy | undefined {
  const named = service.spec.scaling.policyRef?.name;
  if (named !== undefined) return policies.find((policy) => policy.metadata.name === named);
  const labels = service.metadata.labels ?? {};
  return policies
    .filter(
      ({ spec }) =>
        spec.selector !== undefined &&
        selects(spec.selector, labels) &&
        (spec.namespaceSelector === undefined || selects(spec.namespaceSelector, namespaceLabels)),
    )
    .sort(
      (a, b) => b.spec.priority - a.spec.priority || (a.metadata.name < b.metadata.name ? -1 : 1),
    )[0];
}

/** Kubernetes' label selection: every requirement must hold, an empty selector selects all. */
export function selects(selector: LabelSelector, labels: Labels): boolean {
  const exact = Object.entries(selector.matchLabels ?? {});
  if (!exact.every(([key, value]) => labels[key] === value)) return false;
  return (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
    const value = labels[key];
    if (operator === "Exists") return value !== undefined;
    if (operator === "DoesNotExist") return value === undefined;
    // As in Kubernetes, NotIn also holds where the label is absent.
    return (value !== undefined && values.includes(value)) === (operator === "In");
  });
}

/** The spec's own values, then the policy's defaults, then ours; the policy's limits on top. */
export function scalingSettings(
  service: InferenceService,
  policy: AutoscalingPolicy | undefined,
): ScalingSettings {
  const { scaling } = service.spec;
  const defaults = policy?.spec.defaults;
  const minReplicas = scaling.minReplicas ?? defaults?.minReplicas ?? 1;
  const maxReplicas = scaling.maxReplicas ?? defaults?.maxReplicas ?? minReplicas;
  return {
    minReplicas,
    // A policy's default may lie below what the service asks for at least.
    maxReplicas: Math.max(minReplicas, maxReplicas),
    policyLimit: policy?.spec.limits?.maxReplicas,
    ...targetSettings({ ...defaults?.targets, ...scaling.targets }),
    ...behaviorSettings(defaults?.behavior, scaling.behavior),
    scaleUpAt: Number(policy?.spec.algorithm.scaleUpAt ?? "0.85"),
    scaleDownAt: Number(policy?.spec.algorithm.scaleDownAt ?? "0.70"),
    staleAfterMs: durationMs(policy?.spec.algorithm.staleAfter ?? "5s"),
  };
}

function targetSettings(targets: NonNullable<Scaling["targets"]>) {
  return {
    kvCacheUtilization: Number(targets.kvCacheUtilization ?? "0.80"),
    queueDepthPerReplica: targets.queueDepthPerReplica ?? 4,
    ttftMs: targets.ttft === undefined ? undefined : durationMs(targets.ttft),
    itlMs: targets.itl === undefined ? undefined : durationMs(targets.itl),
  };
}

function behaviorSettings(defaults: Scaling["behavior"], own: Scaling["behavior"]) {
  const up = { ...defaults?.scaleUp, ...own?.scaleUp };
  const down = { ...defaults?.scaleDown, ...own?.scaleDown };
  return {
    scaleUpStabilizationMs: 1_000 * (up.stabilizationWindowSeconds ?? 0),
    scaleUpMaxFactor: Number(up.maxFactor ?? "4"),
    scaleDownStabilizationMs: 1_000 * (down.stabilizationWindowSeconds ?? 300),
    scaleDownMaxPods: down.maxPods ?? 1,
    scaleDownPeriodMs: 1_000 * (down.periodSeconds ?? 60),
  };
}
