/**
 * What the HTTP side asks of the engine, and what it hears back. The engine thread implements it
 * behind rings (`thread/engine-client.ts`); tests of the server may implement it by hand.
 */
import type { RowSampling } from "./device.ts";

export interface GenerationRequest {
  readonly promptTokenIds: Int32Array;
  readonly sampling: RowSampling;
  /** Tokens to generate at most; prompt and these fit into `maxModelLen` (checked by the caller). */
  readonly maxTokens: number;
  /** Generated tokens that end the request: `stop_token_ids`, and the end tokens unless ignored. */
  readonly stopTokenIds: Int32Array;
  /** Lower runs first; requests of one priority run in order of arrival. */
  readonly priority: number;
  /** Requests share cached blocks only under the same salt. */
  readonly cacheSalt: string;
}

export type FinishReason = "stop" | "length" | "abort" | "error";

/** Tokens of one request that became known together, oldest first. */
export interface GenerationUpdate {
  readonly tokenIds: readonly number[];
  /** Parallel to `tokenIds`; empty unless the request asked for logprobs. */
  readonly logprobs: readonly number[];
  /** Parallel to `tokenIds`; the alternatives, most likely first. */
  readonly topLogprobs: readonly (readonly (readonly [tokenId: number, logprob: number])[])[];
  /** Prompt tokens that came from the prefix cache; known from the first update on. */
  readonly cachedTokenCount: number;
  readonly finishReason: FinishReason | undefined;
}

/** One generation in flight. */
export interface Generation extends AsyncIterable<GenerationUpdate> {
  /** Gives up: the request's blocks are free one step later. Safe to call at any time, and twice. */
  abort(): void;
}

/** What the engine thread publishes of itself; read at any time without waiting for it. */
export interface EngineStats {
  /** Steps finished: the heartbeat. */
  readonly stepCount: number;
  /** Steps submitted and not finished. */
  readonly stepsInFlight: number;
  /** `Date.now()` of the last time round the loop; an idle engine comes round once a second. */
  readonly heartbeatMs: number;
  readonly runningCount: number;
  readonly waitingCount: number;
  /** Uncached prompt tokens of waiting requests. */
  readonly waitingPromptTokens: number;
  readonly blockCount: number;
  readonly blockSize: number;
  readonly freeBlockCount: number;
  /** Reclaimable blocks that the prefix cache keeps. */
  readonly cachedBlockCount: number;
  readonly heldBlockCount: number;
  readonly preemptionCount: number;
  readonly prefixQueryTokens: number;
  readonly prefixHitTokens: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Tokens of all steps so far, and milliseconds that the device spent on them. */
  readonly batchedTokens: number;
  readonly stepMs: number;
  /** Exponentially weighted rates, tokens per second; 0 before the first step of their kind. */
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
}

export interface Engine {
  /** Longest request, prompt and output together, in tokens. */
  readonly maxModelLen: number;
  /**
   * @throws EngineError QUEUE_FULL, DRAINING or NOT_READY
   */
  generate(request: GenerationRequest): Generation;
  stats(): EngineStats;
}
