/** Names that Quire writes on Kubernetes objects. Renaming one orphans what carries it. */

export const apiGroup = "quire.dev";
export const apiVersion = "quire.dev/v1alpha1";

export const labels = {
  /** On every object that Quire makes; its watches and caches select by it. */
  managed: "quire.dev/managed",
  /** Name of the InferenceService that a pod belongs to. */
  inferenceService: "quire.dev/inferenceservice",
  /** Identity of the pod template that a pod was made from. */
  templateHash: "quire.dev/template-hash",
  ordinal: "quire.dev/ordinal",
} as const;

export const annotations = {
  /** RFC 3339 time at which a pod was told to take no new requests. */
  drainingSince: "quire.dev/draining-since",
} as const;

/** Holds a deleted InferenceService until its pods have answered what they were answering. */
export const drainFinalizer = "quire.dev/drain";

export const fieldManager = "quire-operator";

/** Longest name of an InferenceService: pod and Service names derive from it. */
export const maxServiceNameLength = 40;

/** Selector of a service's pods, as `status.selector` and the scale subresource write it. */
export function podSelector(serviceName: string): string {
  return `${labels.inferenceService}=${serviceName}`;
}
