import type { InferenceServiceSpec } from "./inference-service.ts";
import type { ObjectMeta } from "./object-meta.ts";

type Scaling = InferenceServiceSpec["scaling"];

export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
    readonly values?: readonly string[];
  }[];
}

export interface AutoscalingPolicy {
  readonly apiVersion: "quire.dev/v1alpha1";
  readonly kind: "AutoscalingPolicy";
  readonly metadata: ObjectMeta;
  readonly spec: {
    readonly priority: number;
    readonly namespaceSelector?: LabelSelector;
    readonly selector?: LabelSelector;
    readonly defaults?: Pick<Scaling, "minReplicas" | "maxReplicas" | "targets" | "behavior">;
    readonly limits?: { readonly maxReplicas?: number; readonly maxGPUs?: number };
    readonly algorithm: {
      readonly scaleUpAt: string;
      readonly scaleDownAt: string;
      readonly staleAfter: string;
      readonly onStaleMetrics: "Hold" | "Floor";
    };
  };
}
