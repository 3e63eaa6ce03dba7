import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import OpenAI from "openai";
import { buildGateway } from "./app.ts";
import { InFlight } from "./in-flight.ts";
import type { ModelRoute, Replica } from "./replicas.ts";

type Handler = (request: IncomingMessage, response: ServerResponse, body: Buffer) => unknown;

describe("models", () => {
  it("lists every model and alias, and shows one whose id has slashes", async (t) => {
    const { origin } = await aGateway(t, [
      aRoute({ service: "one", modelNames: ["org/one", "default"] }),
      aRoute({ service: "two", modelNames: ["two"] }),
    ]);

    const list = await getJson(`${origin}/v1/models`);
    const one = await getJson(`${origin}/v1/models/org/one`);

    assert.deepEqual(
      list.data.map((card: { id: string; root: string }) => [card.id, card.root]),
      [
        ["org/one", "org/one"],
        ["default", "org/one"],
        ["two", "two"],
      ],
    );
    assert.deepEqual(one, list.data[0]);
  });

  it("answers an unknown model with 404 and the names that there are", async (t) => {
    const { origin } = await aGateway(t, [aRoute({ modelNames: ["one", "default"] })]);

    const answer = await post(origin, { model: "tow" });

    assert.equal(answer.status, 404);
    assert.deepEqual(await answer.json(), {
      error: {
        message: 'the model "tow" is not served here. Use one of: one, default.',
        type: "invalid_request_error",
        param: "model",
        code: "model_not_found",
      },
    });
  });

  it("says so when no model is served at all", async (t) => {
    const { origin } = await aGateway(t, []);

    const answer = await post(origin, { model: "m" });

    assert.match((await errorOf(answer)).message, /No model is served yet/);
  });
});

describe("requests", () => {
  it("reach the engine byte for byte, with path, headers and request id", async (t) => {
    const seen: { url: string | undefined; headers: IncomingMessage["headers"]; body: string }[] =
      [];
    const engine = await anEngine(t, (request, response, body) => {
      seen.push({ url: request.url, headers: request.headers, body: body.toString("utf8") });
      response.writeHead(201, { "x-from": "engine", "content-type": "text/plain" }).end("ok");
    });
    const { origin } = await aGateway(t, [aRoute({ replicas: [engine] })]);
    const text = '{ "model" :"m",  "n": 1.50, "é": "\\u00e9" }';

    const answer = await fetch(`${origin}/v1/chat/completions?x=1`, {
      method: "POST",
      headers: { authorization: "Bearer k", "x-request-id": "r1", "content-type": "weird/type" },
      body: text,
    });

    assert.equal(answer.status, 201);
    assert.equal(answer.headers.get("x-from"), "engine");
    assert.equal(answer.headers.get("x-quire-replica"), engine.name);
    assert.equal(await answer.text(), "ok");
    assert.equal(seen[0]?.body, text);
    assert.equal(seen[0]?.url, "/v1/chat/completions?x=1");
    assert.equal(seen[0]?.headers.authorization, "Bearer k");
    assert.equal(seen[0]?.headers["x-request-id"], "r1");
    assert.equal(seen[0]?.headers["content-type"], "weird/type");
    assert.equal(seen[0]?.headers.host, `127.0.0.1:${engine.port}`);
  });

  it("that are no JSON object or name no model are refused in words", async (t) => {
    const { origin } = await aGateway(t, [aRoute({})]);
    const bodies = ["{", "[]", "3", "", '{"model":7}', '{"model":""}'];

    const answers = await Promise.all(
      bodies.map((body) => fetch(`${origin}/v1/completions`, { method: "POST", body })),
    );

    assert.deepEqual(
      answers.map(({ status }) => status),
      [400, 400, 400, 400, 400, 400],
    );
    const codes = await Promise.all(answers.map(async (answer) => (await errorOf(answer)).code));
    assert.deepEqual(codes.slice(0, 4), Array(4).fill("invalid_json"));
    assert.deepEqual(codes.slice(4), ["missing_model", "missing_model"]);
  });

  it("share connections to the engine", async (t) => {
    const engine = await anEngine(t, (_, response) => response.end("ok"));
    let connections = 0;
    engine.server.on("connection", () => connections++);
    const { origin } = await aGateway(t, [aRoute({ replicas: [engine] })]);

    for (let i = 0; i < 20; i++) await (await post(origin, { model: "m" })).text();

    assert.equal(connections, 1);
  });

  it("are answered 503 in the service's own words while no replica is ready", async (t) => {
    const { origin } = await aGateway(t, [
      aRoute({ service: "granite", readyMessage: "0 of 1 replicas ready; Downloading 37 %." }),
    ]);

    const answer = await post(origin, { model: "m" });

    assert.equal(answer.status, 503);
    assert.equal(answer.headers.get("retry-after"), "5");
    assert.equal(
      (await errorOf(answer)).message,
      "granite has no ready replica: 0 of 1 replicas ready; Downloading 37 %. Retry in 5 seconds.",
    );
  });

  it("go to paths that exist only, and the answer names the one that lists models", async (t) => {
    const { origin } = await aGateway(t, []);

    const answer = await fetch(`${origin}/v2/models`);

    assert.equal(answer.status, 404);
    assert.match((await errorOf(answer)).message, /GET \/v1\/models/);
  });
});

describe("a lost replica", () => {
  it("costs nothing before its first byte: another one answers", async (t) => {
    const dead: Replica = { name: "dead", host: "127.0.0.1", port: await closedPort() };
    const reset = await anEngine(t, (request) => request.socket.resetAndDestroy());
    const headersOnly = await anEngine(t, (request, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.flushHeaders();
      setTimeout(() => request.socket.resetAndDestroy(), 20);
    });
    for (const lost of [dead, reset, headersOnly]) {
      const good = await anEngine(t, (_, response) => response.end("good"));
      const { origin } = await aGateway(t, [aRoute({ replicas: [lost, good] })]);

      // Least load takes them in turn, so two requests meet both.
      for (let i = 0; i < 2; i++) {
        const answer = await post(origin, { model: "m" });
        assert.equal(await answer.text(), "good", lost.name);
      }
    }
  });

  it("that refuses with 503, as a draining one does, is passed over", async (t) => {
    const draining = await anEngine(t, (_, response) => response.writeHead(503).end());
    const good = await anEngine(t, (_, response) => response.end("good"));
    const { origin } = await aGateway(t, [aRoute({ replicas: [draining, good] })]);

    const answers = await Promise.all([0, 1, 2].map(() => post(origin, { model: "m" })));

    assert.deepEqual(await Promise.all(answers.map((a) => a.text())), ["good", "good", "good"]);
  });

  it("is told about when there was no other one", async (t) => {
    const dead: Replica = { name: "dead", host: "127.0.0.1", port: await closedPort() };
    const { origin, inFlight } = await aGateway(t, [aRoute({ replicas: [dead] })]);

    const answer = await post(origin, { model: "m" });

    assert.equal(answer.status, 503);
    const error = await errorOf(answer);
    assert.equal(error.code, "no_replica_answered");
    assert.match(error.message, /no replica of svc answered \(dead: connect ECONNREFUSED/);
    assert.equal(inFlight.of("dead"), 0);
  });

  it("is tried no more than three times over", async (t) => {
    let tries = 0;
    const engines = await Promise.all(
      [0, 1, 2, 3, 4].map(() =>
        anEngine(t, (request) => {
          tries++;
          request.socket.resetAndDestroy();
        }),
      ),
    );
    const { origin } = await aGateway(t, [aRoute({ replicas: engines })]);

    assert.equal((await post(origin, { model: "m" })).status, 503);
    assert.equal(tries, 3);
  });

  it("ends a stream with an error event that OpenAI's client raises", async (t) => {
    const engine = await anEngine(t, async (request, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(`data: ${JSON.stringify({ choices: [{ delta: { content: "one" } }] })}\n\n`);
      await delay(30);
      request.socket.resetAndDestroy();
    });
    const { origin, inFlight } = await aGateway(t, [aRoute({ replicas: [engine] })]);
    const client = new OpenAI({ baseURL: `${origin}/v1`, apiKey: "-", maxRetries: 0 });
    const stream = await client.chat.completions.create({
      model: "m",
      messages: [{ role: "user", content: "hello" }],
      stream: true,
    });
    const seen: (string | null | undefined)[] = [];

    await assert.rejects(async () => {
      for await (const chunk of stream) seen.push(chunk.choices[0]?.delta.content);
    }, /replica .* was lost in the middle of the answer/);

    assert.deepEqual(seen, ["one"]);
    assert.equal(inFlight.of(engine.name), 0);
  });

  it("cuts an answer that is no stream, so that nobody takes it for whole", async (t) => {
    const engine = await anEngine(t, async (request, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      response.write('{"half":');
      await delay(20);
      request.socket.resetAndDestroy();
    });
    const { origin } = await aGateway(t, [aRoute({ replicas: [engine] })]);

    const answer = await post(origin, { model: "m" });

    await assert.rejects(answer.text());
  });
});

describe("streams", () => {
  it("arrive chunk by chunk, not when they are complete", async (t) => {
    const next = Promise.withResolvers<void>();
    const engine = await anEngine(t, async (_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: 1\n\n");
      await next.promise;
      response.end("data: 2\n\n");
    });
    const { origin } = await aGateway(t, [aRoute({ replicas: [engine] })]);
    const answer = await post(origin, { model: "m" });
    const reader = answer.body?.getReader() ?? assert.fail("no body");

    const first = await reader.read();
    next.resolve();
    const second = await reader.read();

    assert.equal(Buffer.from(first.value ?? []).toString(), "data: 1\n\n");
    assert.equal(Buffer.from(second.value ?? []).toString(), "data: 2\n\n");
  });

  it("hold the engine back while the client does not read", async (t) => {
    const chunk = Buffer.alloc(64 * 1024, "x");
    let written = 0;
    const engine = await anEngine(t, async (_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      while (!response.destroyed && written < 512 * 1024 * 1024) {
        written += chunk.length;
        if (!response.write(chunk))
          await Promise.race([once(response, "drain"), once(response, "close")]);
      }
    });
    const { port } = await aGateway(t, [aRoute({ replicas: [engine] })]);
    const client = connect(port, "127.0.0.1").pause();
    client.write(rawPost({ model: "m" }));

    await settles(() => written);

    assert.ok(written > 0 && written < 64 * 1024 * 1024, `${written} bytes buffered`);
    client.destroy();
  });

  it("end at the engine when the client leaves", async (t) => {
    const closed = Promise.withResolvers<void>();
    const engine = await anEngine(t, (_, response) => {
      response.once("close", closed.resolve);
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: 1\n\n");
    });
    const { origin, inFlight } = await aGateway(t, [aRoute({ replicas: [engine] })]);
    const leave = new AbortController();
    const answer = await post(origin, { model: "m" }, leave.signal);
    await answer.body?.getReader().read();
    assert.equal(inFlight.of(engine.name), 1);

    leave.abort();
    await closed.promise;

    await until(() => inFlight.of(engine.name) === 0);
  });

  it("are given up at the engine when the client leaves before the first byte", async (t) => {
    const began = Promise.withResolvers<void>();
    const closed = Promise.withResolvers<void>();
    let calls = 0;
    const handler: Handler = (_, response) => {
      calls++;
      response.once("close", closed.resolve);
      began.resolve();
    };
    const replicas = [await anEngine(t, handler), await anEngine(t, handler)];
    const { origin } = await aGateway(t, [aRoute({ replicas })]);
    const leave = new AbortController();
    const answer = post(origin, { model: "m" }, leave.signal);
    await began.promise;

    leave.abort();
    await assert.rejects(answer);
    await closed.promise;
    await delay(20);

    assert.equal(calls, 1, "not tried on another replica");
  });
});

describe("spreading", () => {
  it("keeps the turns of a conversation together and fills idle replicas", async (t) => {
    const hits = new Map<string, Set<string>>();
    const replicas: (Replica & { server: Server })[] = [];
    for (let i = 0; i < 3; i++) {
      const name = `replica-${i}`;
      const engine = await anEngine(t, (_, response, body) => {
        const { messages } = JSON.parse(body.toString("utf8"));
        const conversation = messages[1].content;
        hits.set(conversation, (hits.get(conversation) ?? new Set()).add(name));
        response.end("ok");
      });
      replicas.push({ ...engine, name });
    }
    const { origin } = await aGateway(t, [aRoute({ replicas })]);

    for (let turn = 0; turn < 3; turn++) {
      for (let conversation = 0; conversation < 12; conversation++) {
        const turns = Array.from({ length: turn * 2 }, (_, i) => ({
          role: i % 2 === 0 ? "assistant" : "user",
          content: `turn ${i}`,
        }));
        const messages = [
          { role: "system", content: "You are one system prompt for all. ".repeat(300) },
          { role: "user", content: `question ${conversation}` },
          ...turns,
        ];
        await (await post(origin, { model: "m", messages })).text();
      }
    }

    assert.equal(hits.size, 12);
    for (const [conversation, names] of hits) assert.equal(names.size, 1, conversation);
    assert.equal(new Set([...hits.values()].flatMap((names) => [...names])).size, 3);
  });

  it("sends a replica that left no new requests and lets it finish its old ones", async (t) => {
    const finish = Promise.withResolvers<void>();
    const old = await anEngine(t, async (_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("old ");
      await finish.promise;
      response.end("end");
    });
    const next = await anEngine(t, (_, response) => response.end("new"));
    const routes = [aRoute({ replicas: [old] })];
    const { origin } = await aGateway(t, routes);
    const first = await post(origin, { model: "m" });

    routes[0] = aRoute({ replicas: [next] });
    const second = await post(origin, { model: "m" });

    assert.equal(await second.text(), "new");
    finish.resolve();
    assert.equal(await first.text(), "old end");
  });
});

function aRoute(fields: Partial<ModelRoute>): ModelRoute {
  return {
    service: "svc",
    modelNames: ["m"],
    createdAt: new Date(1_700_000_000_000),
    replicas: [],
    readyMessage: "no replica yet",
    ...fields,
  };
}

async function aGateway(t: TestContext, routes: readonly ModelRoute[]) {
  const inFlight = new InFlight();
  const app = buildGateway({
    replicas: {
      routes: () => routes,
      resolve: (model) => routes.find(({ modelNames }) => modelNames.includes(model)),
    },
    inFlight,
    logger: false,
  });
  const origin = await app.listen({ port: 0, host: "127.0.0.1" });
  t.after(() => {
    app.server.closeAllConnections();
    return app.close();
  });
  return { origin, inFlight, port: (app.server.address() as AddressInfo).port };
}

let engineCount = 0;

async function anEngine(t: TestContext, handler: Handler): Promise<Replica & { server: Server }> {
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

async function closedPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function post(origin: string, body: object, signal?: AbortSignal): Promise<Response> {
  return fetch(`${origin}/v1/completions`, {
    method: "POST",
    body: JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  });
}

function rawPost(body: object): string {
  const text = JSON.stringify(body);
  return `POST /v1/completions HTTP/1.1\r\nhost: h\r\ncontent-length: ${text.length}\r\n\r\n${text}`;
}

// biome-ignore lint/suspicious/noExplicitAny: what a server answers is what the test is about.
async function getJson(url: string): Promise<any> {
  return (await fetch(url)).json();
}

async function errorOf(answer: Response): Promise<{ message: string; code: string }> {
  return ((await answer.json()) as { error: { message: string; code: string } }).error;
}

async function until(condition: () => boolean): Promise<void> {
  const endMs = Date.now() + 5_000;
  while (!condition()) {
    assert.ok(Date.now() < endMs, String(condition));
    await delay(2);
  }
}

/** Waits until a number has stopped changing. */
async function settles(read: () => number): Promise<void> {
  let before = -1;
  while (read() !== before || before === 0) {
    before = read();
    await delay(150);
  }
}
