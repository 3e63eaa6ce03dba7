import assert from "node:assert/strict";
import type { IncomingMessage, Server } from "node:http";
import { describe, it } from "node:test";
import type { Replica } from "./replicas.ts";
import { aGateway, anEngine, aRoute, errorOf, post } from "./testing.ts";

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

// biome-ignore lint/suspicious/noExplicitAny: what a server answers is what the test is about.
async function getJson(url: string): Promise<any> {
  return (await fetch(url)).json();
}
