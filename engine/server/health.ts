import type { FastifyInstance, FastifyReply } from "fastify";
import { enginePaths } from "../contract.ts";
import type { EngineStats } from "../generation.ts";
import type { RouteContext } from "./context.ts";

/** Probes; they answer without a key and without waiting for the engine thread. */
export async function healthRoutes(
  app: FastifyInstance,
  { lifecycle, limits }: RouteContext,
): Promise<void> {
  const ready = async (_: unknown, reply: FastifyReply) => {
    const { phase, message } = lifecycle.report;
    if (lifecycle.ready) return { status: "ready" };
    return reply.code(503).send({ status: lifecycle.draining ? "draining" : phase, message });
  };
  app.get(enginePaths.ready, { schema: { summary: "200 while requests are taken." } }, ready);
  app.get("/health", { schema: { summary: "The same as /health/ready." } }, ready);

  app.get(
    enginePaths.startup,
    { schema: { summary: "Phase and progress of loading; 200 once serving." } },
    async (_, reply) =>
      reply.code(lifecycle.report.phase === "Serving" ? 200 : 503).send(lifecycle.report),
  );

  app.get(
    enginePaths.live,
    { schema: { summary: "503 when steps are in flight and the engine's heartbeat is old." } },
    async (_, reply) => {
      const stats = lifecycle.serving?.engine.stats();
      const isFailed = lifecycle.report.phase === "Failed";
      const isStalled = stats !== undefined && hasStalled(stats, limits.stallTimeoutSeconds);
      const status = isFailed ? "failed" : isStalled ? "stalled" : "live";
      return reply.code(status === "live" ? 200 : 503).send({ status, ...stepsOf(stats) });
    },
  );
}

/** An idle engine comes round without a step, so only steps in flight make an old heartbeat a stall. */
function hasStalled(stats: EngineStats, stallTimeoutSeconds: number): boolean {
  return stats.stepsInFlight > 0 && Date.now() - stats.heartbeatMs > stallTimeoutSeconds * 1000;
}

function stepsOf(stats: EngineStats | undefined) {
  if (stats === undefined) return {};
  return {
    steps: stats.stepCount,
    steps_in_flight: stats.stepsInFlight,
    heartbeat_age_seconds: (Date.now() - stats.heartbeatMs) / 1000,
  };
}
