import fastify, { type FastifyInstance, LogController } from "fastify";

export interface HealthServerOptions {
  readonly logLevel: string;
  /** Whether the caches are filled; a process that only waits for the lease is ready too. */
  readonly isReady: () => boolean;
  /** Prometheus' text, and its content type. */
  readonly metrics: () => Promise<string>;
  readonly metricsType: string;
}

/** What the kubelet and a Prometheus ask. Its logger is the program's. */
export function buildHealthServer(options: HealthServerOptions): FastifyInstance {
  const { logLevel, isReady, metrics, metricsType } = options;
  // Requests come every few seconds from machines, and nobody reads of them.
  const logController = new LogController({ disableRequestLogging: true });
  const app = fastify({ logger: { level: logLevel }, logController });
  app.get("/healthz", async () => ({ status: "ok" }));
  app.get("/readyz", async (_, reply) => {
    if (isReady()) return { status: "ready" };
    return reply.code(503).send({ status: "the caches are not filled yet" });
  });
  app.get("/metrics", async (_, reply) => reply.type(metricsType).send(await metrics()));
  return app;
}
