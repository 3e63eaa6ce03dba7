import type { EngineError } from "../../errors.ts";
import { type DownloadLimits, sourceFailed } from "./resolve-options.ts";

/**
 * A failure that another attempt may not meet. `failure` is what the user is told when no attempt is
 * left, which `resolveModel` does.
 */
export class TransientError extends Error {
  override readonly name = "TransientError";
  readonly failure: EngineError;
  /** The pause that the server asked for, 0 when it named none. */
  readonly retryAfterMs: number;

  constructor(failure: EngineError, retryAfterMs = 0) {
    super(failure.message, { cause: failure });
    this.failure = failure;
    this.retryAfterMs = retryAfterMs;
  }
}

/** What the reader should do about the refusals that depend on who serves the model. */
export interface Remedies {
  /** 401 and 403. */
  readonly access: string;
  /** 404 and 410. */
  readonly missing: string;
}

const maxRedirects = 5;
const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const transientStatuses: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);
const networkRemedy = "Check the network and the proxy, then start again: a download resumes.";

/** The URL without what may be secret: user, password and query. */
export function displayUrl(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

/**
 * Only `https:` leaves the machine.
 *
 * @throws EngineError MODEL_SOURCE_FAILED for `http:` to another host than this one.
 */
export function requireSafeUrl(url: URL): URL {
  const isLoopback = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(url.hostname);
  if (url.protocol === "https:" || (url.protocol === "http:" && isLoopback)) return url;
  throw sourceFailed(
    `${displayUrl(url)} is not encrypted`,
    "Use an https:// URL; http:// is for servers on this machine alone.",
  );
}

/**
 * One GET that follows redirects. `headers` go with it as long as the origin stays the same; after
 * that `authorization` is left out.
 *
 * @returns the response, its body unread.
 * @throws TransientError when no answer came or it was a transient status, EngineError for every
 * other refusal.
 */
export async function get(
  url: URL,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
  remedies: Remedies,
): Promise<Response> {
  let current = requireSafeUrl(url);
  const sent = new Headers(headers);
  for (let hop = 0; hop <= maxRedirects; hop++) {
    const response = await fetchOnce(current, sent, signal);
    if (!redirectStatuses.has(response.status)) return accepted(response, current, remedies);
    await response.body?.cancel();
    const next = redirectTarget(response.headers.get("location"), current);
    if (next.origin !== current.origin) sent.delete("authorization");
    current = next;
  }
  throw sourceFailed(
    `${displayUrl(url)} redirects more than ${maxRedirects} times`,
    "Use another URL.",
  );
}

/**
 * Attempts until one succeeds, pausing longer each time or as long as the server asks.
 *
 * @param progressed tells after a failed attempt whether it brought the work on, which makes it
 * count as the first.
 * @throws the last TransientError when `limits` allow no further attempt.
 */
export async function withRetries<T>(
  limits: DownloadLimits,
  pause: (milliseconds: number) => Promise<void>,
  attempt: () => Promise<T>,
  progressed: () => boolean = () => false,
): Promise<T> {
  for (let failures = 1; ; failures++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof TransientError)) throw error;
      if (progressed()) failures = 1;
      await pause(pauseAfter(error, failures, limits));
    }
  }
}

/** @throws `error` when there is no further attempt to pause for. */
function pauseAfter(error: TransientError, failures: number, limits: DownloadLimits): number {
  const isLast = failures >= limits.attempts || error.retryAfterMs > limits.maxRetryAfterMs;
  if (isLast) throw error;
  const backoffMs = limits.backoffMs * 2 ** (failures - 1);
  // Random, so that the replicas of a model do not come back all at once.
  return Math.max(error.retryAfterMs, backoffMs * (0.5 + Math.random()));
}

/**
 * Lends `use` a signal that aborts when `stallMs` go by without a call of its second argument.
 *
 * @throws TransientError when they did.
 */
export async function withStallDeadline<T>(
  url: URL,
  stallMs: number,
  signal: AbortSignal,
  use: (signal: AbortSignal, onSign: () => void) => Promise<T>,
): Promise<T> {
  const stall = new AbortController();
  const timer = setTimeout(() => {
    const fact = `${displayUrl(url)} sent nothing for ${stallMs / 1000} s`;
    stall.abort(new TransientError(sourceFailed(fact, networkRemedy)));
  }, stallMs);
  try {
    return await use(AbortSignal.any([signal, stall.signal]), () => timer.refresh());
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The body of a response, each piece a sign of life.
 *
 * @param soFar what to tell of the progress when it breaks off, such as ` after 5 bytes`.
 * @throws TransientError when it breaks off, the reason of `signal` when that ended it.
 */
export async function* bodyOf(
  response: Response,
  url: URL,
  signal: AbortSignal,
  onSign: () => void,
  soFar: () => string = () => "",
): AsyncGenerator<Uint8Array> {
  try {
    for await (const piece of response.body ?? []) {
      onSign();
      yield piece;
    }
  } catch (error) {
    throw connectionFailed(url, error, signal, soFar());
  }
}

async function fetchOnce(url: URL, headers: Headers, signal: AbortSignal): Promise<Response> {
  try {
    return await fetch(url, { headers, signal, redirect: "manual" });
  } catch (error) {
    throw connectionFailed(url, error, signal);
  }
}

function connectionFailed(url: URL, error: unknown, signal: AbortSignal, soFar = ""): unknown {
  if (signal.aborted) return signal.reason;
  const fact = `the connection to ${displayUrl(url)} failed${soFar}: ${reasonOf(error)}`;
  return new TransientError(sourceFailed(fact, networkRemedy, error));
}

/** `fetch` hides the reason in the cause of "fetch failed" or "terminated". */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message || String(error.cause) : error.message;
}

/**
 * Where a redirect leads. Encryption is not left on the way.
 *
 * @throws EngineError MODEL_SOURCE_FAILED
 */
export function redirectTarget(location: string | null, from: URL): URL {
  const next = location === null ? null : URL.parse(location, from.href);
  if (next === null) {
    throw sourceFailed(`${displayUrl(from)} redirects to nowhere`, "Use another URL.");
  }
  if (from.protocol === "https:" && next.protocol !== "https:") {
    throw sourceFailed(
      `${displayUrl(from)} redirects to ${displayUrl(next)}, which is not encrypted`,
      "Use the URL of a server that stays with https://.",
    );
  }
  return requireSafeUrl(next);
}

async function accepted(response: Response, url: URL, remedies: Remedies): Promise<Response> {
  // 416 is the answer to a range that only its asker can judge.
  if (response.ok || response.status === 416) return response;
  await response.body?.cancel();
  const { status } = response;
  const failure = sourceFailed(
    `${displayUrl(url)} answers ${status} ${response.statusText}`.trimEnd(),
    remedyFor(status, remedies),
  );
  if (!transientStatuses.has(status)) throw failure;
  const retryAfterMs = parseRetryAfter(response.headers.get("retry-after"), Date.now());
  throw new TransientError(failure, retryAfterMs);
}

function remedyFor(status: number, remedies: Remedies): string {
  if (status === 401 || status === 403) return remedies.access;
  if (status === 404 || status === 410) return remedies.missing;
  if (status === 429) return "The server limits requests: wait, then start again.";
  if (status >= 500) return "The server is in trouble: start again later.";
  return "Check the URL.";
}

/** Seconds or an HTTP date (RFC 9110, 10.2.3). @returns milliseconds, 0 for neither. */
export function parseRetryAfter(value: string | null, now: number): number {
  if (value === null) return 0;
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? 0 : Math.max(0, at - now);
}
