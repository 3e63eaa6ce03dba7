import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { EngineError, type EngineErrorCode } from "../errors.ts";

/** The only place that knows both our error codes and HTTP. */
export const statusOf: Readonly<Record<EngineErrorCode, number>> = {
  CONFIG_INVALID: 500,
  REQUEST_INVALID: 400,
  UNSUPPORTED_FIELD: 400,
  CONTEXT_LENGTH_EXCEEDED: 400,
  UNAUTHORIZED: 401,
  MODEL_NOT_FOUND: 404,
  QUEUE_FULL: 429,
  DRAINING: 503,
  NOT_READY: 503,
  ABORTED: 503,
  MODEL_UNSUPPORTED: 500,
  MODEL_SOURCE_FAILED: 500,
  CHECKSUM_MISMATCH: 500,
  CHECKPOINT_INVALID: 500,
  DEVICE_UNAVAILABLE: 500,
  DEVICE_OUT_OF_MEMORY: 500,
  DEVICE_FAILED: 500,
};

/** Failures of HTTP itself, by status, with the code that a body carries. */
export const httpErrorCodes: Readonly<Record<number, string>> = {
  400: "request_invalid",
  404: "not_found",
  405: "method_not_allowed",
  408: "request_timeout",
  413: "body_too_large",
  414: "uri_too_long",
  415: "unsupported_media_type",
  431: "headers_too_large",
};

/** OpenAI's error body. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: "invalid_request_error" | "server_error";
    readonly param: string | null;
    readonly code: string;
  };
}

/** A refusal by HTTP's own rules, which have no engine code. */
export class HttpRefusal extends Error {
  override readonly name = "HttpRefusal";
  readonly statusCode: number;

  constructor(statusCode: number, message: string) {
    super(message);
    this.statusCode = statusCode;
  }
}

export function statusOfError(error: unknown): number {
  if (error instanceof EngineError) return statusOf[error.code];
  const status = (error as Partial<FastifyError> | null)?.statusCode;
  return typeof status === "number" && status >= 400 && status < 500 ? status : 500;
}

/** A 500 tells nothing of its cause: the log has all of it. */
export function errorBody(error: unknown): ErrorBody {
  const status = statusOfError(error);
  if (status === 500) return body(status, "Internal error.", "internal_error", null);
  if (error instanceof EngineError) {
    const message = `${error.message}. ${error.remedy}`;
    return body(status, message, error.code.toLowerCase(), error.param ?? null);
  }
  const message = error instanceof Error ? error.message : String(error);
  return body(status, message, httpErrorCodes[status] ?? "request_invalid", null);
}

function body(status: number, message: string, code: string, param: string | null): ErrorBody {
  const type = status < 500 ? "invalid_request_error" : "server_error";
  return { error: { message, type, param, code } };
}

/** Headers that go with a refusal. */
export function errorHeaders(error: unknown, retryAfterSeconds: number): Record<string, string> {
  const status = statusOfError(error);
  if (status === 401) return { "www-authenticate": "Bearer" };
  if (status === 429 || status === 503) return { "retry-after": String(retryAfterSeconds) };
  return {};
}

/**
 * Fastify's error handler: answers in OpenAI's error shape, so that clients show message and remedy.
 *
 * @param retryAfterSeconds for 429 and 503
 */
export function sendError(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  retryAfterSeconds: number,
): FastifyReply {
  const status = statusOfError(error);
  if (status === 500) request.log.error({ err: error }, "request failed");
  return reply
    .code(status)
    .headers(errorHeaders(error, retryAfterSeconds))
    .type("application/json; charset=utf-8")
    .send(errorBody(error));
}
