import type { Resource } from "../runtime/kubernetes-object.ts";

/** Kinds that the operator reads or writes, by their place in the API. */
export const resources = {
  inferenceServices: {
    group: "quire.dev",
    version: "v1alpha1",
    kind: "InferenceService",
    plural: "inferenceservices",
  },
  autoscalingPolicies: {
    group: "quire.dev",
    version: "v1alpha1",
    kind: "AutoscalingPolicy",
    plural: "autoscalingpolicies",
  },
  pods: { group: "", version: "v1", kind: "Pod", plural: "pods" },
  namespaces: { group: "", version: "v1", kind: "Namespace", plural: "namespaces" },
  services: { group: "", version: "v1", kind: "Service", plural: "services" },
  disruptionBudgets: {
    group: "policy",
    version: "v1",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
  },
  networkPolicies: {
    group: "networking.k8s.io",
    version: "v1",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
  },
} as const satisfies Record<string, Resource>;
