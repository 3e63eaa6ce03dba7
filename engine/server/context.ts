import type { FastifyReply } from "fastify";
import { EngineError } from "../errors.ts";
import type { EngineMetrics } from "../metrics/metrics.ts";
import type { Lifecycle, Serving } from "./lifecycle.ts";
import type { StreamFlusher } from "./sse.ts";

/** Limits of the endpoint, from the settings of the same names. */
export interface ServerLimits {
  readonly maxBodyBytes: number;
  readonly maxChoices: number;
  readonly maxStreamBufferBytes: number;
  readonly stallTimeoutSeconds: number;
}

/** What the routes share. */
export interface RouteContext {
  readonly lifecycle: Lifecycle;
  readonly metrics: EngineMetrics;
  readonly flusher: StreamFlusher;
  readonly limits: ServerLimits;
}

/** A request that counts as in flight until its response is closed. */
export interface AdmittedRequest {
  readonly serving: Serving;
  /** Aborted when the client is gone, or when a drain runs out of time. */
  readonly signal: AbortSignal;
}

/** @throws EngineError NOT_READY, DRAINING, or ABORTED when the client is gone already */
export function admit({ lifecycle, metrics }: RouteContext, reply: FastifyReply): AdmittedRequest {
  metrics.received();
  const serving = lifecycle.admit();
  if (reply.raw.destroyed) throw clientGone();
  const controller = new AbortController();
  const untrack = lifecycle.track(() => controller.abort());
  // Not request.raw: Node closes a request as soon as its body has been read.
  reply.raw.once("close", () => {
    controller.abort();
    untrack();
  });
  return { serving, signal: controller.signal };
}

export function clientGone(): EngineError {
  return new EngineError("ABORTED", "The client is gone", { remedy: "Send the request again." });
}

/**
 * @returns the name that the answer carries
 * @throws EngineError MODEL_NOT_FOUND with the names that are served
 */
export function modelOf(serving: Serving, name: string | null | undefined): string {
  const [first] = serving.modelNames;
  if (name === undefined || name === null) return first;
  if (serving.modelNames.includes(name)) return name;
  const shown = name.length > 100 ? `${name.slice(0, 100)}…` : name;
  throw new EngineError(
    "MODEL_NOT_FOUND",
    `The model ${JSON.stringify(shown)} is not served here`,
    {
      remedy: `Use ${serving.modelNames.join(" or ")}.`,
      param: "model",
    },
  );
}
