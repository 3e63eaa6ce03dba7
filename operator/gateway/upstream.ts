import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import type { Replica } from "./replicas.ts";

/** Longest silence of an engine in the middle of an answer. */
const stallTimeoutMs = 600_000;
const maxIdleConnectionsPerReplica = 64;

/** Headers of one hop, which a proxy does not pass on (RFC 9110, 7.6.1), and what Node sets itself. */
const hopHeaders = new Set([
  "connection",
  "expect",
  "host",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

export interface UpstreamRequest {
  readonly method: string;
  readonly path: string;
  /** As `IncomingMessage.rawHeaders`: names and values in turn. */
  readonly rawHeaders: readonly string[];
  readonly requestId: string;
  readonly body: Buffer;
}

/** An engine's answer whose first bytes have arrived, so that it cannot be asked for elsewhere. */
export interface UpstreamAnswer {
  readonly status: number;
  readonly rawHeaders: readonly string[];
  /** `text/event-stream` may end with an error event; anything else can only be cut off. */
  readonly isEventStream: boolean;
  readonly firstChunk: Buffer | undefined;
  /** What follows the first chunk. Throws when the engine is lost in the middle. */
  readonly rest: AsyncIterator<Buffer>;
  /** Gives the answer up, so that the engine stops computing it. */
  abandon(): void;
}

/** Connections to engines, kept open between requests. */
export class Upstream {
  readonly #agent = new Agent({
    keepAlive: true,
    maxFreeSockets: maxIdleConnectionsPerReplica,
    scheduling: "lifo",
  });

  /**
   * Sends a request and waits for the first bytes of the answer.
   *
   * @throws the socket's error when the replica is lost before them, and an `AbortError` when
   * `signal` says so.
   */
  async send(
    replica: Replica,
    request: UpstreamRequest,
    signal: AbortSignal,
  ): Promise<UpstreamAnswer> {
    const response = await this.#open(replica, request, signal);
    const chunks: AsyncIterator<Buffer> = response[Symbol.asyncIterator]();
    const first = await chunks.next();
    return {
      status: response.statusCode ?? 502,
      rawHeaders: withoutHopHeaders(response.rawHeaders),
      isEventStream: (response.headers["content-type"] ?? "").startsWith("text/event-stream"),
      firstChunk: first.done === true ? undefined : first.value,
      rest: chunks,
      abandon: () => response.destroy(),
    };
  }

  close(): void {
    this.#agent.destroy();
  }

  #open(replica: Replica, request: UpstreamRequest, signal: AbortSignal): Promise<IncomingMessage> {
    const headers = withoutHopHeaders(request.rawHeaders).filter(
      (_, i, all) => !replacedHeaders.has((all[i - (i % 2)] ?? "").toLowerCase()),
    );
    headers.push("x-request-id", request.requestId);
    headers.push("content-length", String(request.body.length));
    headers.push("host", `${replica.host}:${replica.port}`);
    return new Promise((resolve, reject) => {
      const outgoing = httpRequest({
        agent: this.#agent,
        host: replica.host,
        port: replica.port,
        method: request.method,
        path: request.path,
        headers,
        signal,
      });
      outgoing.setTimeout(stallTimeoutMs, () => {
        outgoing.destroy(new Error(`${replica.name} was silent for ${stallTimeoutMs / 1000} s`));
      });
      outgoing.once("response", resolve);
      // Stays after the response: a socket that fails later reports here too, and to the iterator.
      outgoing.on("error", reject);
      outgoing.end(request.body);
    });
  }
}

const replacedHeaders = new Set(["x-request-id", "content-length"]);

function withoutHopHeaders(rawHeaders: readonly string[]): string[] {
  return rawHeaders.filter(
    (_, i) => !hopHeaders.has((rawHeaders[i - (i % 2)] ?? "").toLowerCase()),
  );
}
