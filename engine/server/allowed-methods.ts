import type { FastifyInstance, HTTPMethods } from "fastify";
import { HttpRefusal } from "./error-response.ts";

const methods: readonly HTTPMethods[] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/** By path, the methods that have a route; filled as routes are added. */
export function collectMethods(app: FastifyInstance): Map<string, Set<string>> {
  const allowed = new Map<string, Set<string>>();
  app.addHook("onRoute", ({ url, method }) => {
    const known = allowed.get(url) ?? new Set();
    for (const name of [method].flat()) known.add(name);
    allowed.set(url, known);
  });
  return allowed;
}

/** Known paths answer 405 with Allow to every other method. */
export function refuseOtherMethods(
  app: FastifyInstance,
  allowed: ReadonlyMap<string, Set<string>>,
): void {
  for (const [url, known] of [...allowed]) {
    const allow = [...known].join(", ");
    app.route({
      url,
      method: methods.filter((method) => !known.has(method)),
      schema: { hide: true },
      handler: (request, reply) => {
        reply.header("allow", allow);
        throw new HttpRefusal(405, `This path does not take ${request.method}; use ${allow}.`);
      },
    });
  }
}
