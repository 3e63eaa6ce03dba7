/**
 * What the operator may know of the engine: the only file of `engine/` that `operator/` imports.
 * It imports nothing. Renaming anything here is a breaking change.
 */

export const enginePort = 8000;

export const enginePaths = {
  live: "/health/live",
  ready: "/health/ready",
  startup: "/health/startup",
  metrics: "/metrics",
  models: "/v1/models",
} as const;

/** Where the engine leaves the error that ended it, as `TerminationMessage` JSON. */
export const terminationLogVariable = "QUIRE_TERMINATION_LOG";

export interface TerminationMessage {
  readonly code: string;
  readonly message: string;
  readonly remedy: string;
}

/** Body of `enginePaths.startup`: 200 once serving, 503 before. */
export interface StartupReport {
  readonly phase: "Resolving" | "Downloading" | "Loading" | "Warming" | "Serving" | "Failed";
  /** Bytes, of the phase's whole; 0 of 0 where it does not count bytes. */
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly message: string;
}

/** Names that the autoscaler reads once a second from `enginePaths.metrics`. */
export const engineMetrics = {
  kvTokensInUse: "quire_kv_tokens_in_use",
  kvTokensTotal: "quire_kv_tokens_total",
  runningRequests: "quire_requests_running",
  waitingRequests: "quire_requests_waiting",
  waitingPromptTokens: "quire_waiting_prompt_tokens",
  receivedRequests: "quire_requests_received_total",
  steps: "quire_steps_total",
  prefillTokensPerSecond: "quire_prefill_tokens_per_second",
  decodeTokensPerSecond: "quire_decode_tokens_per_second",
  draining: "quire_draining",
} as const;
