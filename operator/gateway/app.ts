import fastify, { type FastifyInstance, type FastifyServerOptions, LogController } from "fastify";
import { errorBody, sendError } from "./gateway-error.ts";
import type { InFlight } from "./in-flight.ts";
import { inferenceRoutes } from "./inference.ts";
import { modelRoutes } from "./models.ts";
import type { Replicas } from "./replicas.ts";
import { Upstream } from "./upstream.ts";

/** A context of a million tokens is about 5 MB of JSON. */
const maxBodyBytes = 32 * 1024 * 1024;
/** Time for a client to send its whole request. */
const requestTimeoutMs = 60_000;

export interface GatewayOptions {
  readonly replicas: Replicas;
  readonly inFlight: InFlight;
  readonly logger: FastifyServerOptions["logger"];
}

/** The OpenAI front for all models; built, not listening. */
export function buildGateway({ replicas, inFlight, logger }: GatewayOptions): FastifyInstance {
  const app = fastify({
    logger: logger ?? false,
    logController: new LogController({
      disableRequestLogging: true,
      requestIdLogLabel: "requestId",
    }),
    bodyLimit: maxBodyBytes,
    requestTimeout: requestTimeoutMs,
    requestIdHeader: "x-request-id",
    // A drain ends when the answers in flight have ended, not when the last client hangs up.
    forceCloseConnections: "idle",
  });
  const upstream = new Upstream();
  app.addHook("onClose", async () => upstream.close());

  // Bodies go on as the bytes they came in, whatever they claim to be.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));

  app.setErrorHandler(sendError);
  app.setNotFoundHandler(async (request, reply) => {
    const message = `there is no ${request.method} ${request.url}. See GET /v1/models for what is served.`;
    return reply.code(404).send(errorBody(404, "not_found", message));
  });
  app.get("/health/live", async () => ({ status: "live" }));
  app.register(modelRoutes, { replicas });
  app.register(inferenceRoutes, { replicas, inFlight, upstream });
  return app;
}
