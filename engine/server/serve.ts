import type { FastifyInstance } from "fastify";
import type { EngineConfig } from "../config.ts";
import { buildApp } from "./app.ts";
import { ApiKeys } from "./auth.ts";
import { Lifecycle } from "./lifecycle.ts";

const idleSweepMs = 20;
const lastWriteTimeoutMs = 1000;

export interface RunningServer {
  readonly app: FastifyInstance;
  /** The main program publishes progress here, and the model once it is loaded. */
  readonly lifecycle: Lifecycle;
  /** Such as `http://127.0.0.1:8000`. */
  readonly url: string;
}

/**
 * Listens at once, before there is a model: probes and progress answer while it loads.
 *
 * @throws EngineError CONFIG_INVALID when the API key file is unusable
 */
export async function startServer(config: EngineConfig, version: string): Promise<RunningServer> {
  const lifecycle = new Lifecycle();
  const apiKeys = config.apiKeyFile === "" ? undefined : new ApiKeys(config.apiKeyFile, logReload);
  const app = await buildApp({
    lifecycle,
    limits: config,
    apiKeys,
    version,
    logger: { level: config.logLevel },
  });
  const url = await app.listen({ host: config.host, port: config.port });
  return { app, lifecycle, url };

  function logReload(error: unknown): void {
    if (error === undefined) app.log.info("api keys read again");
    else app.log.error({ err: error }, "api keys not read, the ones before stay");
  }
}

/**
 * Takes no new request, lets those in flight finish for a while, aborts the rest, and closes.
 *
 * @returns whether all of them finished
 */
export async function stopServer(server: RunningServer, drainTimeoutMs: number): Promise<boolean> {
  const { app, lifecycle } = server;
  const count = lifecycle.inFlightCount;
  app.log.info({ count, drainTimeoutMs }, "draining");
  lifecycle.beginDrain();
  const finished = await lifecycle.drained(drainTimeoutMs);
  if (!finished) app.log.warn({ count: lifecycle.inFlightCount }, "drain timed out, aborting");
  await closeConnections(app);
  return finished;
}

/** Closes each connection once it is idle, and after a moment those whose answer is left unread. */
async function closeConnections(app: FastifyInstance): Promise<void> {
  const sweep = setInterval(() => app.server.closeIdleConnections(), idleSweepMs);
  const end = setTimeout(() => app.server.closeAllConnections(), lastWriteTimeoutMs);
  await app.close();
  clearInterval(sweep);
  clearTimeout(end);
}
