/** What the autoscaler decided last for a service in mode Auto; `autoscaler/policy.ts` makes it. */
export interface ScalingDecision {
  readonly desiredReplicas: number;
  readonly boundBy: "None" | "MinReplicas" | "MaxReplicas" | "Policy" | "Capacity";
  /** One sentence: why this many. */
  readonly reason: string;
  /** False while the samples are too old to act on: the number is held. */
  readonly fresh: boolean;
}

/** What a service's engines said last, together. */
export interface ServiceLoad {
  /** Fraction of all replicas' KV tokens that running requests hold, in [0, 1]. */
  readonly kvCacheUtilization: number;
  readonly runningRequests: number;
  readonly waitingRequests: number;
  readonly observedAt: Date;
}
