import assert from "node:assert/strict";
import { connect } from "node:net";
import { describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import OpenAI from "openai";
import type { Replica } from "./replicas.ts";
import {
  aGateway,
  anEngine,
  aRoute,
  closedPort,
  errorOf,
  type Handler,
  post,
  until,
} from "./testing.ts";

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

      // Some of these prompts belong to the lost one, and would be sent there again and again.
      for (let i = 0; i < 8; i++) {
        const answer = await post(origin, { model: "m", prompt: `prompt ${i}` });
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
        if (!response.write(chunk)) {
          await new Promise((resolve) => response.once("drain", resolve));
        }
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
    const { origin, log } = await aGateway(t, [aRoute({ replicas })]);
    const leave = new AbortController();
    const answer = post(origin, { model: "m" }, leave.signal);
    await began.promise;

    leave.abort();
    await assert.rejects(answer);
    await closed.promise;
    await delay(20);

    assert.equal(calls, 1, "not tried on another replica");
    assert.deepEqual(log, [], "nobody was lost");
  });
});

function rawPost(body: object): string {
  const text = JSON.stringify(body);
  return `POST /v1/completions HTTP/1.1\r\nhost: h\r\ncontent-length: ${text.length}\r\n\r\n${text}`;
}

/** Waits until a number has stopped changing. */
async function settles(read: () => number): Promise<void> {
  let before = -1;
  while (read() !== before || before === 0) {
    before = read();
    await delay(150);
  }
}
