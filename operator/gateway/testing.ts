/** A gateway, engines behind it that a test writes itself, and requests to it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { buildGateway } from "./app.ts";
import { InFlight } from "./in-flight.ts";
import type { ModelRoute, Replica } from "./replicas.ts";

export type Handler = (request: IncomingMessage, response: ServerResponse, body: Buffer) => unknown;

export function aRoute(fields: Partial<ModelRoute>): ModelRoute {
  return {
    service: "svc",
    modelNames: ["m"],
    createdAt: new Date(1_700_000_000_000),
    replicas: [],
    readyMessage: "no replica yet",
    ...fields,
  };
}

export async function aGateway(t: TestContext, routes: readonly ModelRoute[]) {
  const inFlight = new InFlight();
  const log: string[] = [];
  const app = buildGateway({
    replicas: {
      routes: () => routes,
      resolve: (model) => routes.find(({ modelNames }) => modelNames.includes(model)),
    },
    inFlight,
    logger: { level: "warn", stream: { write: (line: string) => log.push(line) } },
  });
  const origin = await app.listen({ port: 0, host: "127.0.0.1" });
  t.after(() => {
    app.server.closeAllConnections();
    return app.close();
  });
  return { origin, inFlight, log, port: (app.server.address() as AddressInfo).port };
}

let engineCount = 0;

export async function anEngine(
  t: TestContext,
  handler: Handler,
): Promise<Replica & { server: Server }> {
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part);
    await handler(request, response, Buffer.concat(parts));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { name: `engine-${engineCount++}`, host: "127.0.0.1", port, server };
}

export async function closedPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

export function post(origin: string, body: object, signal?: AbortSignal): Promise<Response> {
  return fetch(`${origin}/v1/completions`, {
    method: "POST",
    body: JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  });
}

export async function errorOf(answer: Response): Promise<{ message: string; code: string }> {
  return ((await answer.json()) as { error: { message: string; code: string } }).error;
}

export async function until(condition: () => boolean): Promise<void> {
  const endMs = Date.now() + 5_000;
  while (!condition()) {
    assert.ok(Date.now() < endMs, String(condition));
    await delay(2);
  }
}
