// Generated from crds/autoscalingpolicy.yaml by crds/generate.ts; edit that file instead.
import type { ObjectMeta } from "./object-meta.ts";

/**
 * Defaults and hard limits that a platform team sets for the scaling of many
 * InferenceServices.
 */
export interface AutoscalingPolicy {
  readonly apiVersion: "quire.dev/v1alpha1";
  readonly kind: "AutoscalingPolicy";
  readonly metadata: ObjectMeta;
  /** Which services it is for, and what holds for them. */
  readonly spec: AutoscalingPolicySpec;
  /** What the policy governs. Written by Quire. */
  readonly status?: AutoscalingPolicyStatus;
}

export interface AutoscalingPolicySpec {
  /** Where several policies select one service, the highest wins; then the first by name. */
  readonly priority: number;
  /** Namespaces whose services are selected, by the namespace's labels; unset is all. */
  readonly namespaceSelector?: {
    /** Labels that must all have these values. */
    readonly matchLabels?: Readonly<Record<string, string>>;
    /** Requirements that must all hold. */
    readonly matchExpressions?: readonly {
      /** The label. */
      readonly key: string;
      /** How the label is compared. */
      readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
      /** Values for In and NotIn. */
      readonly values?: readonly string[];
    }[];
  };
  /**
   * Services that the policy is for, by their labels; `{}` is every service. Unset, only
   * services that name the policy in `scaling.policyRef`.
   */
  readonly selector?: {
    /** Labels that must all have these values. */
    readonly matchLabels?: Readonly<Record<string, string>>;
    /** Requirements that must all hold. */
    readonly matchExpressions?: readonly {
      /** The label. */
      readonly key: string;
      /** How the label is compared. */
      readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
      /** Values for In and NotIn. */
      readonly values?: readonly string[];
    }[];
  };
  /** Values for what a service leaves unset in `spec.scaling`. */
  readonly defaults?: {
    /** Fewest replicas; unset is 1. */
    readonly minReplicas?: number;
    /** Most replicas; unset is the fewest. */
    readonly maxReplicas?: number;
    /** Aims of the autoscaler. */
    readonly targets?: {
      /**
       * Fraction of a replica's KV cache that running requests may hold, above 0 and at most 1;
       * unset is "0.80".
       */
      readonly kvCacheUtilization?: string;
      /** Waiting requests from which on a replica counts as saturated; unset is 4. */
      readonly queueDepthPerReplica?: number;
      /** Aim for the time to first token, such as `800ms`; unset is none. */
      readonly ttft?: string;
      /** Aim for the time between tokens, such as `40ms`; unset is none. */
      readonly itl?: string;
    };
    /** How fast the number may change. */
    readonly behavior?: {
      /** Limits on growing. */
      readonly scaleUp?: {
        /** Seconds that a need must last before it is answered; unset is 0. */
        readonly stabilizationWindowSeconds?: number;
        /** Largest growth in one decision, as a factor above 1; unset is "4". */
        readonly maxFactor?: string;
      };
      /** Limits on shrinking. */
      readonly scaleDown?: {
        /** Seconds over which the highest need counts; unset is 300. */
        readonly stabilizationWindowSeconds?: number;
        /** Replicas removed in one period; unset is 1. */
        readonly maxPods?: number;
        /** Length of the period; unset is 60. */
        readonly periodSeconds?: number;
      };
    };
  };
  /** What no service of this policy may exceed, whatever its spec says. */
  readonly limits?: {
    /** Most replicas of one service. */
    readonly maxReplicas?: number;
    /** Most GPUs of all services of the policy together; older services come first. */
    readonly maxGPUs?: number;
  };
  /** How the number of replicas is computed from tokens. */
  readonly algorithm: {
    /** Fraction of capacity above which replicas are added. */
    readonly scaleUpAt: string;
    /** Fraction of capacity that fewer replicas must stay below. */
    readonly scaleDownAt: string;
    /** Age from which on an engine's report counts as missing. */
    readonly staleAfter: string;
  };
}

export interface AutoscalingPolicyStatus {
  /** Services that the policy applies to. */
  readonly matchedServices?: number;
  /** GPUs that their pods hold. */
  readonly usedGPUs?: number;
}
