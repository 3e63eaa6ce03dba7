import type { ServiceLoad } from "../reconcile/scaling.ts";
import { type ReplicaSample, sum } from "./window.ts";

/**
 * What a service's engines said last, together.
 *
 * @returns `undefined` while no engine has reported
 */
export function loadOf(samples: readonly ReplicaSample[]): ServiceLoad | undefined {
  if (samples.length === 0) return undefined;
  const total = sum(samples, (sample) => sample.kvTokensTotal);
  return {
    kvCacheUtilization: total === 0 ? 0 : sum(samples, (s) => s.kvTokensInUse) / total,
    runningRequests: sum(samples, (sample) => sample.runningRequests),
    waitingRequests: sum(samples, (sample) => sample.waitingRequests),
    observedAt: new Date(Math.max(...samples.map((sample) => sample.atMs))),
  };
}
