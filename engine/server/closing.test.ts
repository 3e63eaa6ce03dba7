import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { aServer, type TestServer, until } from "./test-server.ts";

describe("draining and closing a listening app", () => {
  it("finishes a running stream and then stops listening", async (t) => {
    const { server, url } = await listening(t);
    const answer = await heldStream(server, url);

    const stopped = stop(server, 5000);
    await until(() => server.lifecycle.draining, "draining");
    server.engine.generations[0]?.release();

    assert.equal(await stopped, true);
    assert.match(await answer.text(), /"finish_reason":"stop".*\[DONE\]/s);
    await assert.rejects(fetch(`${url}/health`));
  });

  it("aborts what takes longer than the drain may, and closes at once", async (t) => {
    const { server, url } = await listening(t);
    const answer = await heldStream(server, url);
    const startedMs = performance.now();

    const finished = await stop(server, 1);

    assert.equal(finished, false);
    assert.ok(performance.now() - startedMs < 900, "idle connections are closed at once");
    assert.ok(server.engine.generations[0]?.wasAborted);
    assert.match(await answer.text(), /"code":"aborted".*\[DONE\]/s);
  });

  it("waits for a slow reader no longer than the drain may take", async (t) => {
    const { server, url } = await listening(t);
    Object.assign(server.engine, { maxModelLen: 1_000_000, tokensPerUpdate: 5000 });
    const socket = connect(Number(new URL(url).port), "127.0.0.1").pause();
    t.after(() => socket.destroy());
    const body = '{"prompt":"abcdefgh","stream":true,"max_tokens":90000,"ignore_eos":true}';
    const head = "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json";
    socket.write(`${head}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    await until(() => server.engine.generations[0]?.isOpen === false, "the long answer");

    const finished = await stop(server, 100);

    assert.equal(finished, false);
    await assert.rejects(fetch(`${url}/health`));
  });
});

describe("closing a listening app", () => {
  it("refuses in OpenAI's shape what was on its way", async (t) => {
    const { server, url } = await listening(t);
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    t.after(() => socket.destroy());
    const body = '{"prompt":"a"}';
    const head = "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json";
    const connected = once(server.app.server, "connection");
    socket.write(head.slice(0, 40));
    const [accepted] = await connected;
    await until(() => accepted.bytesRead > 0, "the beginning of the request");

    const stopped = stop(server, 1000);
    await until(() => !server.app.server.listening, "closing");
    socket.write(`${head.slice(40)}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    const [answer] = await once(socket, "data");

    assert.match(String(answer), /^HTTP\/1\.1 503 .*"code":"draining"/s);
    await stopped;
  });

  it("does not wait for a request that never arrives whole", async (t) => {
    const { server, url } = await listening(t);
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    t.after(() => socket.destroy());
    const connected = once(server.app.server, "connection");
    socket.write("POST /v1/completions HTTP/1.1\r\n");
    await connected;
    const startedMs = performance.now();

    await stop(server, 1000);

    assert.ok(performance.now() - startedMs < 3000);
  });
});

async function listening(t: TestContext) {
  const server = await aServer({ limits: { maxStreamBufferBytes: 1e9 } });
  await server.app.listen({ port: 0, host: "127.0.0.1" });
  t.after(() => server.app.close());
  const { port } = server.app.server.address() as AddressInfo;
  return { server, url: `http://127.0.0.1:${port}` };
}

/** A stream that got its first token and waits for the second. */
async function heldStream(server: TestServer, url: string): Promise<Response> {
  server.engine.updatesBeforeHold = 1;
  return fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt: "ab", stream: true }),
  });
}

async function stop({ app, lifecycle }: TestServer, drainTimeoutMs: number): Promise<boolean> {
  lifecycle.beginDrain();
  const finished = await lifecycle.drained(drainTimeoutMs);
  await app.close();
  return finished;
}
