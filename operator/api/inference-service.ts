import type { ObjectMeta } from "./object-meta.ts";

export interface InferenceService {
  readonly apiVersion: "quire.dev/v1alpha1";
  readonly kind: "InferenceService";
  readonly metadata: ObjectMeta;
  readonly spec: InferenceServiceSpec;
  readonly status?: InferenceServiceStatus;
}

export interface InferenceServiceSpec {
  readonly model: {
    readonly uri: string;
    readonly revision?: string;
    readonly name?: string;
    readonly aliases?: readonly string[];
    readonly credentialsSecretRef?: { readonly name: string };
    readonly checksum?: string;
  };
  readonly engine?: {
    readonly dtype?: "auto" | "float32" | "bfloat16";
    readonly maxModelLen?: number;
    readonly maxSeqs?: number;
    readonly maxBatchedTokens?: number;
    readonly targetItlMs?: number;
    readonly prefixCaching?: boolean;
    readonly blockSize?: 16 | 32 | 64;
    readonly threads?: number;
  };
  readonly resources: {
    readonly gpu: {
      readonly count: number;
      readonly resourceName: string;
      readonly products?: readonly string[];
    };
    readonly requests?: { readonly cpu?: string | number; readonly memory?: string | number };
    readonly limits?: { readonly cpu?: string | number; readonly memory?: string | number };
  };
  readonly parallelism: { readonly tensor: number };
  readonly suspend: boolean;
  readonly replicas?: number;
  readonly scaling: {
    readonly mode: "Auto" | "External" | "Static";
    readonly policyRef?: { readonly name: string };
    readonly minReplicas?: number;
    readonly maxReplicas?: number;
    readonly targets?: {
      readonly kvCacheUtilization?: string;
      readonly queueDepthPerReplica?: number;
      readonly ttft?: string;
      readonly itl?: string;
    };
    readonly behavior?: {
      readonly scaleUp?: {
        readonly stabilizationWindowSeconds?: number;
        readonly maxFactor?: string;
      };
      readonly scaleDown?: {
        readonly stabilizationWindowSeconds?: number;
        readonly maxPods?: number;
        readonly periodSeconds?: number;
      };
    };
  };
  readonly rollout: {
    readonly strategy: "Auto" | "RollingUpdate" | "Recreate";
    readonly maxSurge: number;
  };
  readonly drain: { readonly timeout: string };
  readonly service: { readonly port: number };
  readonly template?: {
    readonly metadata?: {
      readonly labels?: Readonly<Record<string, string>>;
      readonly annotations?: Readonly<Record<string, string>>;
    };
    readonly spec?: Readonly<Record<string, unknown>>;
  };
}

export interface InferenceServiceStatus {
  readonly observedGeneration?: number;
  readonly phase?:
    | "Pending"
    | "Resolving"
    | "Downloading"
    | "Loading"
    | "Warming"
    | "Serving"
    | "Draining"
    | "Degraded"
    | "Failed"
    | "Suspended";
  readonly url?: string;
  readonly replicas?: number;
  readonly readyReplicas?: number;
  readonly updatedReplicas?: number;
  readonly drainingReplicas?: number;
  readonly display?: { readonly replicas: string; readonly kv: string; readonly queue: string };
  readonly selector?: string;
  readonly templateHash?: string;
  readonly load?: {
    readonly kvCacheUtilization: string;
    readonly runningRequests: number;
    readonly waitingRequests: number;
    readonly observedAt: string;
  };
  readonly scaling?: {
    readonly desiredReplicas: number;
    readonly mode: "Auto" | "External" | "Static";
    readonly boundBy: "None" | "MinReplicas" | "MaxReplicas" | "Policy" | "Capacity";
    readonly reason: string;
    readonly appliedPolicy?: string;
    readonly lastScaleTime?: string;
    readonly history?: readonly {
      readonly time: string;
      readonly from: number;
      readonly to: number;
      readonly reason: string;
    }[];
  };
  readonly pods?: readonly {
    readonly name: string;
    readonly node?: string;
    readonly phase: string;
    readonly message: string;
  }[];
  readonly conditions?: readonly {
    readonly type: string;
    readonly status: "True" | "False" | "Unknown";
    readonly reason: string;
    readonly message: string;
    readonly observedGeneration: number;
    readonly lastTransitionTime: string;
  }[];
}
