import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { readConfig } from "../config.ts";
import { startServer, stopServer } from "./serve.ts";
import { aServer, until } from "./test-server.ts";

describe("startServer", () => {
  it("listens and reports progress before there is a model", async (t) => {
    const server = await started(t);

    const report = await fetch(`${server.url}/health/startup`);

    assert.equal(report.status, 503);
    assert.match(await report.text(), /"phase":"Resolving"/);
  });

  it("asks for the keys of the configured file", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "quire-serve-"));
    t.after(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, "keys"), "k\n");
    const server = await started(t, "--api-key-file", join(folder, "keys"));
    const statusOf = async (headers: Record<string, string>) =>
      (await fetch(`${server.url}/version`, { headers })).status;

    assert.deepEqual(
      [await statusOf({}), await statusOf({ authorization: "Bearer k" })],
      [401, 200],
    );
  });
});

describe("stopServer", () => {
  it("waits for a slow reader no longer than the drain may take", async (t) => {
    const { server, engine } = await streaming(t, "--max-stream-buffer-bytes=1Gi");
    Object.assign(engine, { maxModelLen: 1_000_000, tokensPerUpdate: 5000 });
    engine.updatesBeforeHold = undefined;
    engine.generations[0]?.release();
    const socket = connect(Number(new URL(server.url).port), "127.0.0.1").pause();
    t.after(() => socket.destroy());
    const body = '{"prompt":"abcdefgh","stream":true,"max_tokens":90000,"ignore_eos":true}';
    const head = "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json";
    socket.write(`${head}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    await until(() => engine.generations[1]?.isOpen === false, "the long answer");

    const finished = await stopServer(server, 100);

    assert.equal(finished, false);
    await assert.rejects(fetch(`${server.url}/health`));
  });

  it("finishes a running stream and then stops listening", async (t) => {
    const { server, engine, answer } = await streaming(t);

    const stopped = stopServer(server, 5000);
    await until(() => server.lifecycle.draining, "draining");
    for (const generation of engine.generations) generation.release();

    assert.equal(await stopped, true);
    assert.match(await (await answer).text(), /"finish_reason":"stop".*\[DONE\]/s);
    await assert.rejects(fetch(`${server.url}/health`));
  });

  it("aborts what takes longer than the drain may", async (t) => {
    const { server, engine, answer } = await streaming(t);

    const startedMs = performance.now();
    assert.equal(await stopServer(server, 1), false);

    assert.ok(performance.now() - startedMs < 4000, "idle connections are closed at once");
    assert.ok(engine.generations[0]?.wasAborted);
    assert.match(await (await answer).text(), /"code":"aborted".*\[DONE\]/s);
  });
});

async function started(t: TestContext, ...argv: string[]) {
  const base = ["model", "--port=0", "--host=127.0.0.1", "--log-level=silent"];
  const server = await startServer(readConfig({}, [...base, ...argv]), "0");
  t.after(() => server.app.close());
  return server;
}

/** A server with one stream that waits for its second token. */
async function streaming(t: TestContext, ...argv: string[]) {
  const server = await started(t, ...argv);
  const { engine } = await aServer({ lifecycle: server.lifecycle });
  engine.updatesBeforeHold = 1;
  const answer = fetch(`${server.url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt: "ab", stream: true }),
  });
  await until(() => engine.generations.length === 1, "the request");
  await answer;
  return { server, engine, answer };
}
