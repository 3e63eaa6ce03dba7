import type { FastifyInstance } from "fastify";

const idleSweepMs = 20;
const unfinishedTimeoutMs = 1000;

/**
 * Makes `app.close()` end soon: a connection closes once it is idle, not when its keep-alive time
 * is over, and one in the middle of a request closes after a moment.
 */
export function closeConnectionsSoon(app: FastifyInstance): void {
  let sweep: NodeJS.Timeout | undefined;
  let end: NodeJS.Timeout | undefined;
  app.addHook("preClose", async () => {
    sweep = setInterval(() => app.server.closeIdleConnections(), idleSweepMs);
    end = setTimeout(() => app.server.closeAllConnections(), unfinishedTimeoutMs);
  });
  app.server.once("close", () => {
    clearInterval(sweep);
    clearTimeout(end);
  });
}
