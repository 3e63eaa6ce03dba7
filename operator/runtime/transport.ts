import http from "node:http";
import https from "node:https";
import { setTimeout as delay } from "node:timers/promises";
import { ApiError, isCode, NoAnswerError } from "./api-error.ts";
import type { Connection, Credentials } from "./credentials.ts";
import { readLines, readText } from "./response-body.ts";

export interface Call {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean>>;
  readonly body?: unknown;
  readonly contentType?: string;
  /** Ends the call early. */
  readonly signal?: AbortSignal | undefined;
}

export interface TransportOptions {
  readonly credentials: Credentials;
  /** Asked before each attempt that may change something; throws to hold it back. */
  readonly beforeWrite?: () => void;
  /** Told of each answer; code 0 is none. */
  readonly onAnswer?: (method: string, code: number, seconds: number) => void;
  /** For one call with all of its attempts. */
  readonly deadlineMs?: number;
}

const defaultDeadlineMs = 10_000;
// Watches keep one each; the rest is for calls, more of which would only queue in the API server.
const maxConnections = 32;
const maxAttempts = 4;
const firstPauseMs = 100;

/**
 * One set of connections to the API server, over which JSON goes back and forth.
 *
 * A call is repeated only where that is safe: after an answer that says nothing was done (401 once,
 * 429), and for a method that may be repeated also after 5xx or no answer. A POST that got no answer
 * may have been done: its caller decides.
 */
export class Transport {
  readonly #options: TransportOptions;
  #pool: Pool | undefined;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  /**
   * @throws ApiError for an answer that refuses
   * @throws NoAnswerError when there is none in time
   */
  async call<T>(call: Call): Promise<T> {
    const deadline = AbortSignal.timeout(this.#options.deadlineMs ?? defaultDeadlineMs);
    const signal = call.signal === undefined ? deadline : AbortSignal.any([call.signal, deadline]);
    for (let attempt = 1; ; attempt++) {
      try {
        const response = await this.#send(call, signal);
        return JSON.parse(await readText(response)) as T;
      } catch (error) {
        if (isCode(error, 401)) this.#options.credentials.refused();
        const pauseMs = pauseBeforeRetry(call.method, error, attempt);
        if (pauseMs === undefined) throw named(call, error);
        await delay(pauseMs, undefined, { signal }).catch(() => {
          throw named(call, error);
        });
      }
    }
  }

  /** The lines of an answer that goes on until either side ends it. Never repeated. */
  async *lines(call: Call & { readonly signal: AbortSignal }): AsyncGenerator<string> {
    const opening = AbortSignal.timeout(this.#options.deadlineMs ?? defaultDeadlineMs);
    try {
      const response = await this.#send(call, call.signal, opening);
      yield* readLines(response);
    } catch (error) {
      if (isCode(error, 401)) this.#options.credentials.refused();
      throw named(call, error);
    }
  }

  close(): void {
    this.#pool?.agent.destroy();
  }

  /** @param opening ends the wait for the answer's head, not the answer */
  async #send(
    call: Call,
    signal: AbortSignal,
    opening?: AbortSignal,
  ): Promise<http.IncomingMessage> {
    const connection = await this.#options.credentials.current();
    if (call.method !== "GET") this.#options.beforeWrite?.();
    const startMs = performance.now();
    const observe = (code: number) =>
      this.#options.onAnswer?.(call.method, code, (performance.now() - startMs) / 1_000);
    try {
      const response = await this.#exchange(connection, call, signal, opening);
      const code = response.statusCode ?? 0;
      if (code >= 300) {
        const body = await readText(response);
        throw new ApiError(nameOf(call), code, body, retryAfterMs(response));
      }
      observe(code);
      return response;
    } catch (error) {
      observe(error instanceof ApiError ? error.code : 0);
      throw error;
    }
  }

  #exchange(
    connection: Connection,
    call: Call,
    signal: AbortSignal,
    opening: AbortSignal | undefined,
  ): Promise<http.IncomingMessage> {
    const { client, agent } = this.#poolFor(connection);
    const body = call.body === undefined ? undefined : JSON.stringify(call.body);
    const headers = {
      ...connection.headers,
      accept: "application/json",
      "user-agent": "quire-operator",
      ...(body === undefined
        ? {}
        : {
            "content-type": call.contentType ?? "application/json",
            "content-length": Buffer.byteLength(body),
          }),
    };
    const url = connection.origin + call.path + queryOf(call);
    return new Promise((resolve, reject) => {
      const request = client.request(url, { method: call.method, agent, headers, signal });
      const expire = () =>
        request.destroy(new NoAnswerError(`${nameOf(call)}: the answer did not begin in time`));
      opening?.addEventListener("abort", expire, { once: true });
      request.once("response", (response) => {
        opening?.removeEventListener("abort", expire);
        resolve(response);
      });
      request.once("error", reject);
      request.end(body);
    });
  }

  /** The pool of these certificates; requests under way finish on the one before. */
  #poolFor({ origin, tls }: Connection): Pool {
    const identity = JSON.stringify([origin, tls]);
    if (this.#pool?.identity === identity) return this.#pool;
    const options = { keepAlive: true, maxSockets: maxConnections, scheduling: "lifo" } as const;
    const secure = origin.startsWith("https:");
    this.#pool = {
      identity,
      client: secure ? https : http,
      agent: secure ? new https.Agent({ ...options, ...tls }) : new http.Agent(options),
    };
    return this.#pool;
  }
}

interface Pool {
  readonly identity: string;
  readonly client: typeof http | typeof https;
  readonly agent: http.Agent;
}

function queryOf({ query = {} }: Call): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) parameters.set(name, String(value));
  return parameters.size === 0 ? "" : `?${parameters}`;
}

/** @returns `undefined` where another attempt is not safe, or not worth it. */
function pauseBeforeRetry(
  method: Call["method"],
  error: unknown,
  attempt: number,
): number | undefined {
  if (attempt >= maxAttempts || !mayRepeat(method, error, attempt)) return undefined;
  const asked = error instanceof ApiError ? error.retryAfterMs : undefined;
  return asked ?? firstPauseMs * 2 ** (attempt - 1);
}

function mayRepeat(method: Call["method"], error: unknown, attempt: number): boolean {
  if (!(error instanceof ApiError)) return method !== "POST" && isConnectionError(error);
  // Credentials are read anew for the second attempt; a third would read the same.
  if (error.code === 401) return attempt === 1;
  return error.code === 429 || (error.code >= 500 && method !== "POST");
}

function isConnectionError(error: unknown): boolean {
  return error instanceof Error && "code" in error && typeof error.code === "string";
}

function retryAfterMs({ headers }: http.IncomingMessage): number | undefined {
  const seconds = Number(headers["retry-after"] ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? 1_000 * seconds : undefined;
}

function nameOf({ method, path }: Call): string {
  return `${method} ${path}`;
}

/** Errors of sockets, timers and broken JSON name the request that met them; ours do already. */
function named(call: Call, error: unknown): unknown {
  const isForeign =
    isConnectionError(error) || error instanceof DOMException || error instanceof SyntaxError;
  if (!isForeign) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new NoAnswerError(`${nameOf(call)}: ${message}`, { cause: error });
}
