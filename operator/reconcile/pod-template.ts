/** One environment variable of the engine's container. */
export interface EnvVariable {
  readonly name: string;
  readonly value: string;
}

/** What a replica runs, the same for a Kubernetes Pod and for a process of `quire up`. */
export interface PodTemplate {
  /** Ten hexadecimal digits over everything below: pods with another hash are outdated. */
  readonly hash: string;
  /** Arguments of the program `quire`: `["serve", ...]`. */
  readonly args: readonly string[];
  /**
   * The engine's settings. The cluster adds what only it knows: the port and address to listen on
   * and the file of `terminationLogVariable`.
   */
  readonly env: readonly EnvVariable[];
  /** Secret whose keys become environment variables; Kubernetes alone. */
  readonly credentialsSecretName?: string;
  readonly resources: PodResources;
  /** How long a pod may take to finish its requests after it was told to drain. */
  readonly drainTimeoutSeconds: number;
  /** `spec.template`, laid over the pod; Kubernetes alone. */
  readonly overlay?: {
    readonly metadata?: {
      readonly labels?: Readonly<Record<string, string>>;
      readonly annotations?: Readonly<Record<string, string>>;
    };
    readonly spec?: Readonly<Record<string, unknown>>;
  };
}

/** What one pod needs of the machine that it runs on. */
export interface PodResources {
  /** 0 computes on the processor. */
  readonly gpuCount: number;
  /** Name under which the device plugin offers GPUs, such as `nvidia.com/gpu`. */
  readonly gpuResourceName: string;
  /** Accepted GPU products by node label; empty accepts any. */
  readonly gpuProducts: readonly string[];
  /** CPUs in thousandths of a core, memory in bytes; absent where the spec leaves it open. */
  readonly requests: { readonly cpuMillis?: number; readonly memoryBytes?: number };
  readonly limits: { readonly cpuMillis?: number; readonly memoryBytes?: number };
}

/** A pod to create. Its name is deterministic, so that creating it twice makes one pod. */
export interface NewPod {
  readonly name: string;
  readonly ordinal: number;
  readonly template: PodTemplate;
}

export function podName(serviceName: string, templateHash: string, ordinal: number): string {
  return `${serviceName}-${templateHash}-${ordinal}`;
}
