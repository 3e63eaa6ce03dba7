/** Names that Quire writes on Kubernetes objects. Renaming one orphans what carries it. */

export const apiVersion = "quire.dev/v1alpha1";

export const labels = {
  /** On every object that Quire makes; its watches and caches select by it. */
  managed: "quire.dev/managed",
  /** Name of the InferenceService that a pod belongs to. */
  inferenceService: "quire.dev/inferenceservice",
  /** Identity of the pod template that a pod was made from. */
  templateHash: "quire.dev/template-hash",
  ordinal: "quire.dev/ordinal",
  /** `true` on pods that may be sent requests: a service's endpoints select by it. */
  serving: "quire.dev/serving",
} as const;

export const annotations = {
  /** When a pod was told to take no new requests, in RFC 3339. */
  drainingSince: "quire.dev/draining-since",
  /** Hash of what was applied last, to notice fields that are not desired any more. */
  appliedHash: "quire.dev/applied-hash",
} as const;

/** Owner of the fields that the operator applies. */
export const fieldManager = "quire-operator";

/** Holds a deleted InferenceService until its pods have answered what they were answering. */
export const drainFinalizer = "quire.dev/drain";

/** Selector of a service's pods, as `status.selector` and the scale subresource write it. */
export function podSelector(serviceName: string): string {
  return `${labels.inferenceService}=${serviceName}`;
}
