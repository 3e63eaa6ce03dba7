/** How long an engine that ended waits before it is started again. Times in milliseconds. */
export interface RestartBackoff {
  readonly firstMs: number;
  readonly maxMs: number;
  /** An engine that ran this long starts the series anew. */
  readonly resetAfterMs: number;
}

/** The kubelet's series: doubled from one end to the next, and forgotten after ten good minutes. */
export const defaultRestartBackoff: RestartBackoff = {
  firstMs: 1_000,
  maxMs: 300_000,
  resetAfterMs: 600_000,
};

/** @param failures ends in a row before this one; 0 at the first. */
export function restartDelayMs(backoff: RestartBackoff, failures: number): number {
  return Math.min(backoff.firstMs * 2 ** failures, backoff.maxMs);
}
