import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";

export type GatewayErrorCode =
  | "invalid_json"
  | "missing_model"
  | "model_not_found"
  | "no_replica_ready"
  | "no_replica_answered";

const statusOf: Record<GatewayErrorCode, number> = {
  invalid_json: 400,
  missing_model: 400,
  model_not_found: 404,
  no_replica_ready: 503,
  no_replica_answered: 503,
};

interface GatewayErrorOptions {
  /** What the reader should do next, as an imperative sentence. */
  readonly remedy: string;
  /** The request field at fault. */
  readonly param?: string;
  readonly retryAfterSeconds?: number;
  readonly cause?: unknown;
}

/** A refusal by the gateway itself; an engine's own refusals pass through as they are. */
export class GatewayError extends Error {
  override readonly name = "GatewayError";
  readonly code: GatewayErrorCode;
  readonly remedy: string;
  readonly param: string | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: GatewayErrorCode, message: string, options: GatewayErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.remedy = options.remedy;
    this.param = options.param;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** The body of OpenAI's errors, so that its clients show our message. */
export function errorBody(status: number, code: string, message: string, param?: string): object {
  const type = status < 500 ? "invalid_request_error" : "server_error";
  return { error: { message, type, param: param ?? null, code } };
}

/** Fastify's error handler of the gateway. */
export function sendError(
  error: FastifyError | GatewayError,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  if (error instanceof GatewayError) {
    if (error.retryAfterSeconds !== undefined) reply.header("retry-after", error.retryAfterSeconds);
    const status = statusOf[error.code];
    const message = `${error.message}. ${error.remedy}`;
    return reply.code(status).send(errorBody(status, error.code, message, error.param));
  }
  const status = error.statusCode ?? 500;
  // A client that left has nobody to read the answer, and nothing went wrong here.
  if (status >= 500 && error.name !== "AbortError") {
    request.log.error({ err: error }, "request failed");
  }
  const message = status >= 500 ? "Internal error" : error.message;
  const code = status >= 500 ? "internal_error" : error.code.toLowerCase();
  return reply.code(status).send(errorBody(status, code, message));
}
