import type { FastifyInstance, FastifyReply } from "fastify";
import { Dispatcher } from "./dispatch.ts";
import type { InFlight } from "./in-flight.ts";
import { findRoute } from "./models.ts";
import { relay } from "./relay.ts";
import type { Replicas } from "./replicas.ts";
import { readBody } from "./request-body.ts";
import type { Upstream } from "./upstream.ts";

export interface InferenceOptions {
  readonly replicas: Replicas;
  readonly inFlight: InFlight;
  readonly upstream: Upstream;
}

/** `POST /v1/*`: finds the model, picks a replica, passes bytes through both ways. */
export async function inferenceRoutes(
  app: FastifyInstance,
  { replicas, inFlight, upstream }: InferenceOptions,
): Promise<void> {
  const dispatcher = new Dispatcher(inFlight, upstream);

  app.post("/v1/*", async (request, reply) => {
    const bytes = request.body instanceof Buffer ? request.body : Buffer.alloc(0);
    const body = readBody(bytes);
    const readRoute = () => findRoute(replicas, body.model);
    const signal = closeSignal(reply);
    const { answer, replica, leave } = await dispatcher.dispatch(readRoute, {
      method: "POST",
      path: request.raw.url ?? "/",
      rawHeaders: request.raw.rawHeaders,
      requestId: request.id,
      body: bytes,
      key: body.affinityKey,
      signal,
      log: request.log,
    });
    reply.hijack();
    const end = await relay(answer, reply.raw, replica.name).finally(leave);
    if (end === "replica-lost") {
      request.log.warn({ pod: replica.name }, "replica lost in the middle of an answer");
    }
  });
}

/** Fires once the connection to the client or the answer on it has ended. */
function closeSignal(reply: FastifyReply): AbortSignal {
  // Not the request's close event: Node fires it as soon as the body has been read.
  const closed = new AbortController();
  reply.raw.once("close", () => closed.abort());
  return closed.signal;
}
