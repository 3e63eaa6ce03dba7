import type { FastifyInstance } from "fastify";

const idleSweepMs = 20;
const lastWriteTimeoutMs = 1000;

/**
 * Makes `app.close()` end soon: a connection closes once it is idle, not when its keep-alive time
 * is over, and one whose answer is left unread closes after a moment.
 */
export function closeConnectionsSoon(app: FastifyInstance): void {
  let sweep: NodeJS.Timeout | undefined;
  let last: NodeJS.Timeout | undefined;
  app.addHook("preClose", async () => {
    sweep = setInterval(() => app.server.closeIdleConnections(), idleSweepMs);
    last = setTimeout(() => app.server.closeAllConnections(), lastWriteTimeoutMs);
  });
  app.server.once("close", () => {
    clearInterval(sweep);
    clearTimeout(last);
  });
}
