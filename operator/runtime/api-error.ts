/** Kubernetes' `Status`, the body of an answer that refuses. */
interface Status {
  readonly kind?: string;
  readonly reason?: string;
  readonly message?: string;
}

/** The API server answered, and refused. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  /** HTTP status code. */
  readonly code: number;
  /** Kubernetes' word for it, such as `AlreadyExists`; empty where the body was no Status. */
  readonly reason: string;
  /** What the server asked us to wait before another attempt. */
  readonly retryAfterMs: number | undefined;

  constructor(request: string, code: number, body: string, retryAfterMs?: number) {
    const { message, reason = "" } = statusOf(body);
    super(`${request}: ${message ?? `HTTP ${code}`}`);
    this.code = code;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }
}

/** No answer came: the connection failed or the time was over. Whether it took effect is unknown. */
export class NoAnswerError extends Error {
  override readonly name = "NoAnswerError";
}

/** A write that was held back: this process does not lead, or not any more. */
export class NotLeaderError extends Error {
  override readonly name = "NotLeaderError";
}

export function isCode(error: unknown, code: number): boolean {
  return error instanceof ApiError && error.code === code;
}

/** The resource version is too old to go on from: list again. */
export function isGone(error: unknown): boolean {
  return isCode(error, 410);
}

/** The write was made for a state that is not the present one: read again. */
export function isConflict(error: unknown): boolean {
  return isCode(error, 409) && !isAlreadyExists(error);
}

export function isAlreadyExists(error: unknown): boolean {
  return error instanceof ApiError && error.reason === "AlreadyExists";
}

function statusOf(body: string): Status {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === "object" && value !== null ? (value as Status) : {};
  } catch (error) {
    // Proxies and load balancers in front of an API server answer with pages of their own.
    if (error instanceof SyntaxError) return body === "" ? {} : { message: body.slice(0, 200) };
    throw error;
  }
}
