import type { V1Pod } from "@kubernetes/client-node";
import { enginePaths, enginePort, terminationLogVariable } from "../../engine/contract.ts";
import type { InferenceService } from "../api/inference-service.ts";
import { apiVersion, labels } from "../api/names.ts";
import {
  type MachineShare,
  modelMountPath,
  type NewPod,
  type PodTemplate,
} from "../reconcile/pod-template.ts";
import type { Stored, Wire } from "../runtime/kubernetes-object.ts";
import { laidOver } from "./overlay.ts";

export type Pod = Stored<V1Pod>;
type PodSpec = NonNullable<Wire<V1Pod>["spec"]>;

/** Images of the engine; where they differ, the one for the processor is smaller. */
export interface EngineImages {
  readonly cuda: string;
  readonly cpu: string;
}

/** Container that runs `quire serve`; users' overlays find it by this name. */
export const engineContainer = "engine";

const terminationLog = "/dev/termination-log";
const cacheFolder = "/var/cache/quire";
/** Label that NVIDIA's device plugin and its operator put on nodes. */
const productLabel = "nvidia.com/gpu.product";
// The engine itself ends what takes longer than its drain may; the kubelet comes after it.
const graceMarginSeconds = 5;

/** The Pod of a replica, without what the API server fills in. */
export function podManifest(service: InferenceService, pod: NewPod, images: EngineImages): Pod {
  const { template } = pod;
  const { metadata = {}, spec = {} } = template.overlay ?? {};
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: pod.name,
      ...(service.metadata.namespace === undefined
        ? {}
        : { namespace: service.metadata.namespace }),
      labels: {
        ...metadata.labels,
        ...ownLabels(service),
        [labels.templateHash]: template.hash,
        [labels.ordinal]: String(pod.ordinal),
        [labels.serving]: "true",
      },
      annotations: { ...metadata.annotations },
      ownerReferences: [ownerOf(service)],
    },
    spec: laidOver({ ...podSpec(template, images) }, spec) as unknown as PodSpec,
  };
}

/** Labels of everything that the operator makes for a service. */
export function ownLabels({ metadata }: InferenceService): Record<string, string> {
  return { [labels.managed]: "true", [labels.inferenceService]: metadata.name };
}

/**
 * The garbage collector takes what is left of a service, also when no operator runs. It does not
 * block the owner's deletion: the finalizer does, and this would ask for one right more.
 */
export function ownerOf({ metadata }: InferenceService) {
  return {
    apiVersion,
    kind: "InferenceService",
    name: metadata.name,
    uid: metadata.uid ?? "",
    controller: true,
  };
}

function podSpec(template: PodTemplate, images: EngineImages): PodSpec {
  const { resources, modelClaimName, drainTimeoutMs } = template;
  const claim = { claimName: modelClaimName ?? "", readOnly: true };
  return {
    terminationGracePeriodSeconds: Math.ceil(drainTimeoutMs / 1_000) + graceMarginSeconds,
    // The engine speaks to nobody in the cluster.
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: 65_532,
      fsGroup: 65_532,
      seccompProfile: { type: "RuntimeDefault" },
    },
    containers: [engine(template, resources.gpuCount === 0 ? images.cpu : images.cuda)],
    volumes: [
      { name: "cache", emptyDir: {} },
      { name: "tmp", emptyDir: {} },
      // Ranks of one pod exchange through it; the default of 64 MiB is too small for them.
      { name: "shared-memory", emptyDir: { medium: "Memory" } },
      ...(modelClaimName === undefined ? [] : [{ name: "model", persistentVolumeClaim: claim }]),
    ],
    ...placement(template),
  };
}

function engine(template: PodTemplate, image: string): PodSpec["containers"][number] {
  const { credentialsSecretName, modelClaimName } = template;
  return {
    name: engineContainer,
    image,
    command: ["quire"],
    args: [...template.args],
    env: [
      ...template.env,
      { name: terminationLogVariable, value: terminationLog },
      { name: "QUIRE_CACHE_DIR", value: cacheFolder },
    ],
    ...(credentialsSecretName === undefined
      ? {}
      : { envFrom: [{ secretRef: { name: credentialsSecretName } }] }),
    ports: [{ name: "http", containerPort: enginePort, protocol: "TCP" }],
    resources: containerResources(template),
    // Loading has no deadline: an engine that loads is live, and says how far it is.
    livenessProbe: probe(enginePaths.live, { periodSeconds: 10, failureThreshold: 6 }),
    readinessProbe: probe(enginePaths.ready, { periodSeconds: 1, failureThreshold: 3 }),
    terminationMessagePath: terminationLog,
    terminationMessagePolicy: "FallbackToLogsOnError",
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    },
    volumeMounts: [
      { name: "cache", mountPath: cacheFolder },
      { name: "tmp", mountPath: "/tmp" },
      { name: "shared-memory", mountPath: "/dev/shm" },
      ...(modelClaimName === undefined
        ? []
        : [{ name: "model", mountPath: modelMountPath, readOnly: true }]),
    ],
  };
}

function probe(path: string, timing: { periodSeconds: number; failureThreshold: number }) {
  return { httpGet: { path, port: "http" }, timeoutSeconds: 5, ...timing };
}

function containerResources({ resources }: PodTemplate) {
  const { gpuCount, gpuResourceName, requests, limits } = resources;
  const gpus = gpuCount === 0 ? {} : { [gpuResourceName]: String(gpuCount) };
  return {
    requests: quantities(requests),
    // Extended resources have a limit and no other request.
    limits: { ...quantities(limits), ...gpus },
  };
}

function quantities({ cpuMillis, memoryBytes }: MachineShare): Record<string, string> {
  return {
    ...(cpuMillis === undefined ? {} : { cpu: `${cpuMillis}m` }),
    ...(memoryBytes === undefined ? {} : { memory: String(memoryBytes) }),
  };
}

/** Nodes that have one of the accepted products, those named first being preferred. */
function placement({ resources }: PodTemplate): Pick<PodSpec, "affinity"> {
  const { gpuCount, gpuProducts } = resources;
  if (gpuCount === 0 || gpuProducts.length === 0) return {};
  const among = (values: readonly string[]) => ({
    matchExpressions: [{ key: productLabel, operator: "In", values }],
  });
  return {
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [among(gpuProducts)],
        },
        preferredDuringSchedulingIgnoredDuringExecution: gpuProducts
          .slice(0, -1)
          .map((product, i) => ({
            weight: Math.max(1, 100 - 10 * i),
            preference: among([product]),
          })),
      },
    },
  };
}
