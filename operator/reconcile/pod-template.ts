import { durationMs } from "../api/duration.ts";
import type { InferenceService } from "../api/inference-service.ts";
import { quantityMillis } from "../api/quantity.ts";

/** One environment variable of the engine. */
export interface EnvVariable {
  readonly name: string;
  readonly value: string;
}

/** What a replica runs, the same for a Kubernetes Pod and for a process of `quire up`. */
export interface PodTemplate {
  /** Ten hexadecimal digits over everything below: pods with another hash are outdated. */
  readonly hash: string;
  /** Arguments of the program `quire`. */
  readonly args: readonly string[];
  /**
   * The engine's settings, by name. The cluster adds what only it knows: address and port, the file
   * of `terminationLogVariable`, and where no kernel limits memory, `QUIRE_MEMORY_BYTES`.
   */
  readonly env: readonly EnvVariable[];
  /** Secret whose keys become environment variables; Kubernetes alone. */
  readonly credentialsSecretName?: string;
  /** Claim that holds the model, mounted read-only at `modelMountPath`; Kubernetes alone. */
  readonly modelClaimName?: string;
  readonly resources: PodResources;
  /** How long a pod may take to finish its requests after it was told to drain. */
  readonly drainTimeoutMs: number;
  /** `spec.template`, laid over the pod; Kubernetes alone. */
  readonly overlay?: NonNullable<InferenceService["spec"]["template"]>;
}

/** What one pod needs of the machine that it runs on. */
export interface PodResources {
  /** 0 computes on the processor. */
  readonly gpuCount: number;
  /** Name under which the device plugin offers GPUs, such as `nvidia.com/gpu`. */
  readonly gpuResourceName: string;
  /** Accepted GPU products by node label; empty accepts any. */
  readonly gpuProducts: readonly string[];
  readonly requests: MachineShare;
  readonly limits: MachineShare;
}

/** Absent where the spec leaves it open. */
export interface MachineShare {
  /** Thousandths of a core. */
  readonly cpuMillis?: number;
  readonly memoryBytes?: number;
}

/** A pod to create. Its name is deterministic, so that creating it twice makes one pod. */
export interface NewPod {
  readonly name: string;
  readonly ordinal: number;
  readonly template: PodTemplate;
}

/** Where a pod finds the claim of a `pvc://` model. */
export const modelMountPath = "/mnt/model";

export function podName(serviceName: string, templateHash: string, ordinal: number): string {
  return `${serviceName}-${templateHash}-${ordinal}`;
}

/**
 * Settings that the spec leaves open are left out, so that a new setting of the engine changes no
 * hash and moves no pod.
 */
export function podTemplate({ metadata, spec }: InferenceService): PodTemplate {
  const claim = /^pvc:\/\/([^/]+)\//.exec(spec.model.uri)?.[1];
  const secret = spec.model.credentialsSecretRef?.name;
  const content = {
    args: ["serve"],
    env: engineVariables(metadata.name, spec),
    ...(secret === undefined ? {} : { credentialsSecretName: secret }),
    ...(claim === undefined ? {} : { modelClaimName: claim }),
    resources: podResources(spec.resources),
    drainTimeoutMs: durationMs(spec.drain.timeout),
    ...(spec.template === undefined ? {} : { overlay: spec.template }),
  };
  return { hash: hashOf(content), ...content };
}

type Spec = InferenceService["spec"];

/** The names are those of `engine/config/config.ts`. */
function engineVariables(serviceName: string, spec: Spec): EnvVariable[] {
  const { model, engine = {}, resources, parallelism, drain } = spec;
  const cpuLimit = share(resources.limits).cpuMillis;
  const threads = cpuLimit === undefined ? undefined : Math.max(1, Math.floor(cpuLimit / 1_000));
  const values: Record<string, string | number | boolean | undefined> = {
    QUIRE_BACKEND: resources.gpu.count === 0 ? "cpu" : "cuda",
    QUIRE_BLOCK_SIZE: engine.blockSize,
    QUIRE_CHECKSUM: model.checksum,
    QUIRE_DRAIN_TIMEOUT_SECONDS: Math.ceil(durationMs(drain.timeout) / 1_000),
    QUIRE_DTYPE: engine.dtype,
    QUIRE_ENABLE_PREFIX_CACHING: engine.prefixCaching,
    QUIRE_MAX_MODEL_LEN: engine.maxModelLen,
    QUIRE_MAX_NUM_BATCHED_TOKENS: engine.maxBatchedTokens,
    QUIRE_MAX_NUM_SEQS: engine.maxSeqs,
    QUIRE_MODEL: modelLocation(model.uri),
    QUIRE_REVISION: model.revision,
    QUIRE_SERVED_MODEL_NAME: servedNames(serviceName, spec).join(","),
    QUIRE_TARGET_ITL_MS: engine.targetItlMs,
    QUIRE_TENSOR_PARALLEL_SIZE: parallelism.tensor === 1 ? undefined : parallelism.tensor,
    QUIRE_THREADS: resources.gpu.count === 0 ? (engine.threads ?? threads) : undefined,
  };
  return Object.entries(values).flatMap(([name, value]) =>
    value === undefined ? [] : [{ name, value: String(value) }],
  );
}

/** Names that requests may use for the model, the first is the one that answers carry. */
export function servedNames(serviceName: string, { model }: Pick<Spec, "model">): string[] {
  return [model.name ?? serviceName, ...(model.aliases ?? [])];
}

/** The engine reads paths; that one came from a claim, or from a URI, ends here. */
function modelLocation(uri: string): string {
  if (uri.startsWith("file://")) return uri.slice("file://".length);
  return uri.replace(/^pvc:\/\/[^/]+/, modelMountPath);
}

function podResources({ gpu, requests, limits }: Spec["resources"]): PodResources {
  return {
    gpuCount: gpu.count,
    gpuResourceName: gpu.resourceName,
    gpuProducts: gpu.products ?? [],
    requests: share(requests),
    limits: share(limits),
  };
}

function share(amounts: Spec["resources"]["limits"]): MachineShare {
  const { cpu, memory } = amounts ?? {};
  return {
    ...(cpu === undefined ? {} : { cpuMillis: Number(quantityMillis(cpu)) }),
    ...(memory === undefined ? {} : { memoryBytes: Number(quantityMillis(memory) / 1_000n) }),
  };
}

/** FNV-1a, 64 bits, over JSON with sorted keys; its first ten digits. */
function hashOf(content: object): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(canonicalJson(content))) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, "0").slice(0, 10);
}

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
