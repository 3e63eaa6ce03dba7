import { enginePort } from "../../engine/contract.ts";
import type { InferenceService } from "../api/inference-service.ts";
import { labels } from "../api/names.ts";
import type { AppliedObject } from "../runtime/apply.ts";
import { ownerOf, ownLabels } from "./pod-manifest.ts";

/**
 * The Service in front of a service's pods. It selects by a label and not by a readiness gate: a pod
 * leaves the endpoints with one write and without its kubelet, and a pod that starts is ready without
 * the operator.
 */
export function serviceManifest(service: InferenceService): AppliedObject {
  return {
    metadata: metadataOf(service),
    spec: {
      selector: {
        [labels.inferenceService]: service.metadata.name,
        [labels.serving]: "true",
      },
      ports: [
        { name: "http", port: service.spec.service.port, targetPort: "http", protocol: "TCP" },
      ],
    },
  };
}

/** Lets a drained node take one replica at a time; a single replica is not in its way. */
export function disruptionBudgetManifest(
  service: InferenceService,
  replicas: number,
): AppliedObject {
  return {
    metadata: metadataOf(service),
    spec: {
      minAvailable: Math.max(0, replicas - 1),
      selector: { matchLabels: { [labels.inferenceService]: service.metadata.name } },
    },
  };
}

/** Nothing but the engine's port is reached from outside of its pod. */
export function networkPolicyManifest(service: InferenceService): AppliedObject {
  return {
    metadata: metadataOf(service),
    spec: {
      podSelector: { matchLabels: { [labels.inferenceService]: service.metadata.name } },
      policyTypes: ["Ingress"],
      ingress: [{ ports: [{ port: enginePort, protocol: "TCP" }] }],
    },
  };
}

/** Where clients in the cluster reach a service. */
export function serviceUrl({ metadata, spec }: InferenceService): string {
  const port = spec.service.port === 80 ? "" : `:${spec.service.port}`;
  return `http://${metadata.name}.${metadata.namespace}.svc${port}`;
}

function metadataOf(service: InferenceService): AppliedObject["metadata"] {
  const { name, namespace } = service.metadata;
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    labels: ownLabels(service),
    ownerReferences: [ownerOf(service)],
  };
}
