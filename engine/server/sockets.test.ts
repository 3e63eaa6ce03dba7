import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, type Socket } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { aServer, type TestServer, until } from "./test-server.ts";

/** What `inject` cannot show: these go over real sockets. */
describe("connections", () => {
  for (const stream of [true, false]) {
    it(`abort their request when the client leaves${stream ? " a stream" : ""}`, async (t) => {
      const { server, port } = await listening(t);
      server.engine.updatesBeforeHold = 1;
      const socket = request(port, { prompt: "abc", stream });
      await until(() => server.engine.generations.length === 1, "the request is admitted");
      if (stream) await once(socket, "data");

      socket.destroy();

      await until(() => server.engine.generations[0]?.wasAborted === true, "the abort");
      await until(() => server.lifecycle.inFlightCount === 0, "nothing in flight");
    });
  }

  it("end a plain request before it was admitted", async (t) => {
    const { server, port } = await listening(t);
    const { serving } = server.lifecycle;
    assert.ok(serving);
    const encoding = Promise.withResolvers<void>();
    const encoded = Promise.withResolvers<void>();
    server.lifecycle.serve({
      ...serving,
      text: Object.assign(Object.create(serving.text), {
        encode: async () => {
          encoding.resolve();
          await encoded.promise;
          return Int32Array.of(1);
        },
      }),
    });
    const socket = request(port, { prompt: "abc" });
    await encoding.promise;

    socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(server.lifecycle.inFlightCount, 0);
    encoded.resolve();
    await new Promise((resolve) => setTimeout(resolve, 50));

    assert.equal(server.engine.generations.length, 0);
  });

  it("go on while their client reads: a request's own close is not the client's", async (t) => {
    const { server, port } = await listening(t);
    server.engine.updatesBeforeHold = 2;
    const socket = request(port, { prompt: "abc", stream: true });
    await once(socket, "data");

    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(server.engine.generations[0]?.isOpen, true);
    server.engine.generations[0]?.release();

    assert.match(await textUntil(socket, "[DONE]"), /"text":"c"/);
  });

  it("send the first token at once, while the next is not known", async (t) => {
    const { server, port } = await listening(t);
    server.engine.updatesBeforeHold = 1;

    const socket = request(port, { prompt: "abc", stream: true });

    assert.match(await textUntil(socket, '"text":"a"'), /text\/event-stream/);
  });

  it("of a slow reader are cut at the limit, and fast ones beside it go on", async (t) => {
    const { server, port } = await listening(t, { maxStreamBufferBytes: 50_000 });
    Object.assign(server.engine, { maxModelLen: 1_000_000, tokensPerUpdate: 500 });
    const body = { prompt: "abcdefgh", stream: true, max_tokens: 60_000, ignore_eos: true };
    const slow = request(port, body);
    slow.pause();
    slow.on("error", () => {});
    await until(() => server.engine.generations.length === 1, "the slow request");

    const fast = await Promise.all(
      [1, 2, 3].map(() => textUntil(request(port, { ...body, max_tokens: 2000 }), "[DONE]")),
    );

    await until(() => server.engine.generations[0]?.wasAborted === true, "the slow one's abort");
    assert.ok(server.engine.generations.slice(1).every(({ wasAborted }) => !wasAborted));
    assert.ok(fast.every((text) => text.includes('"finish_reason":"length"')));
    const metrics = (await server.app.inject("/metrics")).body;
    assert.match(metrics, /^quire_slow_readers_aborted_total 1$/m);
  });

  it("serve several requests, streamed and not, one after another", async (t) => {
    const { port } = await listening(t);
    const socket = connect(port, "127.0.0.1");
    t.after(() => socket.destroy());

    send(socket, { prompt: "ab", stream: true });
    const first = await textUntil(socket, "0\r\n\r\n");
    send(socket, { prompt: "cd" });
    const second = await textUntil(socket, "cached_tokens");

    assert.match(first, /\[DONE\]/);
    assert.match(second, /"text":"cd"/);
  });

  it("that speak no HTTP get an error body", async (t) => {
    const { port } = await listening(t);
    const socket = connect(port, "127.0.0.1");
    socket.write("GIVE me tokens\r\n\r\n");

    const answer = await textUntil(socket, "}}");

    assert.match(answer, /^HTTP\/1\.1 400 Bad Request\r\n/);
    assert.equal(JSON.parse(answer.split("\r\n\r\n")[1] ?? "").error.code, "request_invalid");
  });

  it("with headers that are too large get an error body", async (t) => {
    const { port } = await listening(t);
    const socket = connect(port, "127.0.0.1");
    socket.write(`GET /version HTTP/1.1\r\nHost: a\r\nX-Long: ${"x".repeat(20_000)}\r\n\r\n`);

    const answer = await textUntil(socket, "}}");

    assert.match(answer, /^HTTP\/1\.1 431 /);
    assert.match(answer, /"code":"headers_too_large"/);
  });
});

async function listening(t: TestContext, limits: { maxStreamBufferBytes?: number } = {}) {
  const server: TestServer = await aServer({ limits });
  await server.app.listen({ port: 0, host: "127.0.0.1" });
  t.after(async () => {
    for (const generation of server.engine.generations) generation.abort();
    server.app.server.closeAllConnections();
    await server.app.close();
  });
  return { server, port: (server.app.server.address() as AddressInfo).port };
}

function request(port: number, body: object): Socket {
  const socket = connect(port, "127.0.0.1");
  send(socket, body);
  return socket;
}

function send(socket: Socket, body: object): void {
  const payload = JSON.stringify(body);
  socket.write(
    [
      "POST /v1/completions HTTP/1.1",
      "Host: quire",
      "Content-Type: application/json",
      `Content-Length: ${Buffer.byteLength(payload)}`,
      "",
      payload,
    ].join("\r\n"),
  );
}

async function textUntil(socket: Socket, mark: string): Promise<string> {
  let text = "";
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new Error(`no ${mark} in: ${text.slice(-300)}`)), 5000);
  const onData = (chunk: Buffer) => {
    text += chunk.toString("utf8");
    if (text.includes(mark)) resolve(text);
  };
  socket.on("data", onData);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.off("data", onData);
  }
}
