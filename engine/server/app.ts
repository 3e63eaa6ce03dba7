import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import swagger from "@fastify/swagger";
import fastify, { type FastifyInstance, type FastifyServerOptions, LogController } from "fastify";
import { enginePaths } from "../contract.ts";
import { EngineMetrics } from "../metrics/metrics.ts";
import { collectMethods, refuseOtherMethods } from "./allowed-methods.ts";
import type { ApiKeys } from "./auth.ts";
import { chatRoutes } from "./chat-completions.ts";
import { answerClientError } from "./client-error.ts";
import { closeConnectionsSoon } from "./closing.ts";
import { completionRoutes } from "./completions.ts";
import type { RouteContext, ServerLimits } from "./context.ts";
import { errorBody, HttpRefusal, sendError } from "./error-response.ts";
import { healthRoutes } from "./health.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { modelRoutes } from "./models.ts";
import { StreamFlusher } from "./sse.ts";
import { tokenizeRoutes } from "./tokenize.ts";
import { ajvOptions, inspectBody, type SchemaProblem, schemaError } from "./validation.ts";

export interface AppOptions {
  readonly lifecycle: Lifecycle;
  readonly limits: ServerLimits;
  /** undefined asks for no key. */
  readonly apiKeys: Pick<ApiKeys, "check" | "close"> | undefined;
  /** Of the program, for /version. */
  readonly version: string;
  readonly logger: NonNullable<FastifyServerOptions["logger"]>;
}

/** Time for a request to arrive whole, headers and body. */
const requestTimeoutMs = 60_000;
const maxUrlPartChars = 512;
const maxRetryAfterSeconds = 60;
const requestIdPattern = /^[\w.:-]{1,128}$/;

/** Builds the endpoint; it does not listen. */
export async function buildApp(options: AppOptions): Promise<FastifyInstance> {
  const { lifecycle, limits, apiKeys } = options;
  const metrics = new EngineMetrics({
    stats: () => lifecycle.serving?.engine.stats(),
    draining: () => lifecycle.draining,
    modelName: () => lifecycle.serving?.modelNames[0],
  });
  const context: RouteContext = { lifecycle, limits, metrics, flusher: new StreamFlusher() };
  const app = fastify(serverOptions(options));
  const allowed = collectMethods(app);
  closeConnectionsSoon(app);

  app.removeContentTypeParser("text/plain");
  app.setSerializerCompiler(() => JSON.stringify);
  app.setErrorHandler((error, request, reply) => {
    metrics.refused(errorBody(error).error.code);
    return sendError(error, request, reply, retryAfterSeconds(lifecycle));
  });
  app.setNotFoundHandler((request) => {
    throw new HttpRefusal(404, `There is no ${request.method} ${shortPath(request.url)}.`);
  });
  app.addHook("onRequest", async (request, reply) => {
    reply.header("x-request-id", request.id);
    if (lifecycle.draining) reply.header("connection", "close");
    if (apiKeys !== undefined && !isProbe(request.url))
      apiKeys.check(request.headers.authorization);
  });
  app.addHook("preValidation", async (request) => inspectBody(request.body));
  app.addHook("onResponse", async (request, reply) => {
    const { method, url } = request;
    const { statusCode, elapsedTime } = reply;
    const fields = { method, path: shortPath(url), statusCode, durationMs: elapsedTime };
    request.log.debug(fields, "request answered");
  });
  app.addHook("onClose", async () => apiKeys?.close());

  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "Quire", version: options.version, description: "One served model." },
    },
  });
  await app.register(modelRoutes, context);
  await app.register(completionRoutes, context);
  await app.register(chatRoutes, context);
  await app.register(tokenizeRoutes, context);
  await app.register(healthRoutes, context);
  app.get(enginePaths.metrics, { schema: { summary: "Prometheus metrics." } }, async (_, reply) =>
    reply.type(metrics.contentType).send(await metrics.render()),
  );
  app.get("/version", { schema: { summary: "The program's version." } }, async () => ({
    version: options.version,
  }));
  app.get("/openapi.json", { schema: { summary: "This description." } }, async () => app.swagger());
  refuseOtherMethods(app, allowed);
  await app.ready();
  return app;
}

function serverOptions({ limits, logger }: AppOptions): FastifyServerOptions {
  return {
    logger,
    logController: new LogController({
      disableRequestLogging: true,
      requestIdLogLabel: "requestId",
    }),
    bodyLimit: limits.maxBodyBytes,
    requestTimeout: requestTimeoutMs,
    // What still comes in while closing gets the lifecycle's own refusal.
    return503OnClosing: false,
    routerOptions: { maxParamLength: maxUrlPartChars },
    ajv: { customOptions: ajvOptions },
    schemaErrorFormatter: (problems) => schemaError(problems as unknown as SchemaProblem[]),
    genReqId: requestId,
    frameworkErrors: (error, request, reply) => {
      sendError(error, request, reply as never, 1);
    },
    clientErrorHandler: answerClientError,
  };
}

/** The caller's X-Request-Id where it is a plain word, else a fresh one. */
function requestId(request: { headers: IncomingMessage["headers"] }): string {
  const given = request.headers["x-request-id"];
  return typeof given === "string" && requestIdPattern.test(given) ? given : randomUUID();
}

function isProbe(url: string): boolean {
  return /^\/health(\/[a-z]+)?(\?|$)/.test(url);
}

function shortPath(url: string): string {
  const path = url.split("?", 1)[0] ?? "";
  return path.length > 100 ? `${path.slice(0, 100)}…` : path;
}

/** Seconds until the prompts that wait now are likely computed. */
function retryAfterSeconds({ serving }: Lifecycle): number {
  const stats = serving?.engine.stats();
  if (stats === undefined || stats.prefillTokensPerSecond <= 0) return 1;
  const seconds = Math.ceil(stats.waitingPromptTokens / stats.prefillTokensPerSecond);
  return Math.min(Math.max(seconds, 1), maxRetryAfterSeconds);
}
