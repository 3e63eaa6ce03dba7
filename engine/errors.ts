/**
 * Every failure the engine reports on purpose. A caller branches on `code`, never on `message`.
 */
export type EngineErrorCode =
  | "CONFIG_INVALID"
  | "REQUEST_INVALID"
  | "UNSUPPORTED_FIELD"
  | "CONTEXT_LENGTH_EXCEEDED"
  | "UNAUTHORIZED"
  | "MODEL_NOT_FOUND"
  | "QUEUE_FULL"
  | "DRAINING"
  | "NOT_READY"
  | "ABORTED"
  | "MODEL_UNSUPPORTED"
  | "MODEL_SOURCE_FAILED"
  | "CHECKSUM_MISMATCH"
  | "CHECKPOINT_INVALID"
  | "DEVICE_UNAVAILABLE"
  | "DEVICE_OUT_OF_MEMORY"
  | "DEVICE_FAILED";

interface EngineErrorOptions {
  /** What the reader should do next, as an imperative sentence. */
  readonly remedy: string;
  /** The request field at fault, for the `param` of an error body. */
  readonly param?: string;
  readonly cause?: unknown;
}

/** The message states the fact with its numbers, the remedy is an instruction. */
export class EngineError extends Error {
  override readonly name = "EngineError";
  readonly code: EngineErrorCode;
  readonly remedy: string;
  readonly param: string | undefined;

  constructor(code: EngineErrorCode, message: string, options: EngineErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.remedy = options.remedy;
    this.param = options.param;
  }
}
