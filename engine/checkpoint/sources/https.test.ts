import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";

import { resolveModel } from "../sources.ts";
import type { SourceProgress } from "./resolve-options.ts";
import {
  aWorld,
  content,
  cutAfter,
  failure,
  sendContent,
  sendFile,
  serve,
  shortestMs,
  type WorldHandler,
} from "./testing.ts";

describe("an https:// source", () => {
  it("downloads a file once and answers from the cache in under 50 ms", async () => {
    await using world = await aWorld(sendContent);

    const first = await world.resolve();
    const milliseconds = await shortestMs(async () =>
      assert.deepEqual(await world.resolve(), first),
    );

    assert.deepEqual(readFileSync(first.path), content);
    assert.deepEqual(world.requests, ["GET /m.gguf"]);
    assert.ok(milliseconds < 50, `${milliseconds} ms`);
  });

  it("reports bytes and leaves nothing but the file and its record", async () => {
    await using world = await aWorld(sendContent);
    const reports: SourceProgress[] = [];

    const { path } = await world.resolve({ onProgress: (progress) => reports.push(progress) });

    const last = reports.at(-1);
    assert.equal(last?.doneBytes, content.length);
    assert.equal(last?.totalBytes, content.length);
    assert.match(last?.message ?? "", /downloading http:\/\/127.0.0.1:\d+\/m.gguf \(300 kB\)/);
    assert.deepEqual(readdirSync(dirname(path)).toSorted(), [".quire.json", "m.gguf"]);
    assert.equal(readdirSync(join(dirname(path), "..")).length, 1);
  });

  it("resumes a cut connection where it was cut", async () => {
    await using world = await aWorld(cutAfter(100_000), sendContent);

    const { path } = await world.resolve();

    assert.deepEqual(readFileSync(path), content);
    assert.deepEqual(world.requests, ["GET /m.gguf", "GET /m.gguf bytes=100000-"]);
  });

  it("starts again when the file changed, the range is ignored, or no validator was sent", async () => {
    const cut = (etag: string) => cutAfter(100_000, etag, Buffer.alloc(content.length));
    const cases: [string, WorldHandler, WorldHandler][] = [
      ["changed", cut('"old"'), sendContent],
      ["weak", cut('W/"one"'), sendContent],
      ["ignored", cut('"one"'), (_, response) => response.end(content)],
      ["416", cut('"one"'), (_, response) => response.writeHead(416).end()],
      ["wrong start", cut('"one"'), (_, response) => partial(response, "bytes 5-299999/300000")],
      ["wrong total", cut('"one"'), (_, response) => partial(response, "bytes 100000-9/10")],
      ["no range", cut('"one"'), (_, response) => partial(response, "")],
    ];
    for (const [name, first, second] of cases) {
      await using world = await aWorld(first, second, sendContent);

      const { path } = await world.resolve();

      assert.deepEqual(readFileSync(path), content, name);
    }
  });

  it("goes on as long as each attempt brings enough, and ends when none does", async () => {
    const resume = cutAfter(30_000);
    await using patient = await aWorld(resume);
    const { path } = await patient.resolve({ limits: { attempts: 2, minProgressBytes: 30_000 } });
    assert.deepEqual(readFileSync(path), content);
    assert.equal(patient.requests.length, 10);

    await using strict = await aWorld(resume);
    await assert.rejects(
      strict.resolve({ limits: { attempts: 2, minProgressBytes: 30_001 } }),
      failure("MODEL_SOURCE_FAILED", /m.gguf failed after 60000 of 300000 bytes/),
    );
  });

  it("takes the pieces that a server divides the rest of a file into", async () => {
    await using world = await aWorld(cutAfter(100_000), (request, response) => {
      const start = Number(/\d+/.exec(request.headers.range ?? "")?.[0]);
      const end = Math.min(start + 60_000, content.length);
      response.setHeader("content-range", `bytes ${start}-${end - 1}/${content.length}`);
      response.writeHead(206).end(content.subarray(start, end));
    });

    const { path } = await world.resolve();

    assert.deepEqual(readFileSync(path), content);
    assert.equal(world.requests.length, 5);
  });

  it("refuses more bytes than were announced", async () => {
    await using world = await aWorld(cutAfter(100_000), (_, response) => {
      response.setHeader("content-range", "bytes 100000-299999/300000");
      response.writeHead(206).end(content);
    });
    await assert.rejects(
      world.resolve(),
      failure("MODEL_SOURCE_FAILED", /m.gguf sends more than the 300000 bytes/),
    );
  });

  it("names both numbers when a server never sends what it announces", async () => {
    await using world = await aWorld(cutAfter(1_000, 'W/"one"'));

    await assert.rejects(
      world.resolve({ limits: { attempts: 3 } }),
      failure("MODEL_SOURCE_FAILED", /m.gguf failed after 1000 of 300000 bytes: other side closed/),
    );
    assert.equal(world.requests.length, 3);
  });

  it("refuses sizes that are missing or compressed", async () => {
    const cases: [WorldHandler, RegExp][] = [
      [
        (_, response) => {
          response.write(content);
          response.end();
        },
        /does not say how long the file is/,
      ],
      [
        (_, response) => response.setHeader("content-encoding", "gzip").end(content),
        /compresses the file with gzip/,
      ],
    ];
    for (const [handler, message] of cases) {
      await using world = await aWorld(handler);
      await assert.rejects(world.resolve(), failure("MODEL_SOURCE_FAILED", message));
      assert.equal(world.requests.length, 1);
    }
  });

  it("gives up on a server that goes silent before or within the body", async () => {
    const silent: WorldHandler[] = [
      () => undefined,
      (_, response) => {
        response.setHeader("content-length", content.length);
        response.write(content.subarray(0, 10));
      },
    ];
    for (const handler of silent) {
      await using world = await aWorld(handler);
      await assert.rejects(
        world.resolve({ limits: { stallMs: 100, attempts: 2 } }),
        failure("MODEL_SOURCE_FAILED", /m.gguf sent nothing for 0.1 s/),
      );
      assert.equal(world.requests.length, 2);
    }
  });

  it("does not take a slow server for a silent one", async () => {
    await using world = await aWorld(async (_, response) => {
      response.setHeader("content-length", content.length);
      for (let at = 0; at < content.length; at += 30_000) {
        response.write(content.subarray(at, at + 30_000));
        await new Promise((resolve) => setTimeout(resolve, 60));
      }
      response.end();
    });

    await world.resolve({ limits: { stallMs: 400, attempts: 1 } });
  });

  it("explains refusals without trying again", async () => {
    const cases: [number, RegExp, RegExp][] = [
      [401, /answers 401 Unauthorized/, /user and password/],
      [403, /answers 403 Forbidden/, /user and password/],
      [404, /answers 404 Not Found/, /Check the URL/],
      [410, /answers 410 Gone/, /Check the URL/],
      [400, /answers 400 Bad Request/, /Check the URL/],
    ];
    for (const [status, message, remedy] of cases) {
      await using world = await aWorld((_, response) => response.writeHead(status).end("no"));
      await assert.rejects(world.resolve(), failure("MODEL_SOURCE_FAILED", message, remedy));
      assert.equal(world.requests.length, 1, `${status}`);
    }
  });

  it("tries again after 429 and 5xx, as late as the server asks", async () => {
    const at: number[] = [];
    const busy = (status: number, after: string): WorldHandler => {
      return (_, response) => {
        at.push(performance.now());
        response.setHeader("retry-after", after).writeHead(status).end();
      };
    };
    await using world = await aWorld(busy(429, "1"), busy(503, "soon"), (request, response) => {
      at.push(performance.now());
      sendFile(request, response, content);
    });

    await world.resolve();

    const [first = 0, second = 0, third = 0] = at;
    assert.ok(second - first >= 990, `waited ${second - first} ms`);
    assert.ok(third - second < 900, `waited ${third - second} ms`);
  });

  it("does not wait longer than its limit for a busy server", async () => {
    await using world = await aWorld((_, response) =>
      response.setHeader("retry-after", "3600").writeHead(429).end(),
    );
    await assert.rejects(
      world.resolve(),
      failure("MODEL_SOURCE_FAILED", /answers 429/, /limits requests/),
    );
    assert.equal(world.requests.length, 1);
  });

  it("ends after its attempts when the server stays in trouble or cannot be reached", async () => {
    await using world = await aWorld((_, response) => response.writeHead(502).end());
    await assert.rejects(
      world.resolve({ limits: { attempts: 3 } }),
      failure("MODEL_SOURCE_FAILED", /answers 502 Bad Gateway/, /start again later/),
    );
    assert.equal(world.requests.length, 3);

    await assert.rejects(
      resolveModel("http://127.0.0.1:1/m.gguf", world.options({ limits: { attempts: 2 } })),
      failure(
        "MODEL_SOURCE_FAILED",
        /connection to http:\/\/127.0.0.1:1\/m.gguf failed/,
        /network/,
      ),
    );
  });

  it("follows redirects and leaves credentials with the first host", async () => {
    let elsewhere: string | undefined = "none";
    await using other = await serve((request, response) => {
      elsewhere = request.headers.authorization;
      sendFile(request, response, content);
    });
    let here: string | undefined;
    await using world = await aWorld((request, response) => {
      here = request.headers.authorization;
      response.setHeader("location", `${other.url}/other`).writeHead(302).end();
    });

    const uri = `${world.url.replace("://", "://user:p%40ss@")}/m.gguf?key=secret`;
    const { path } = await resolveModel(uri, world.options());

    assert.deepEqual(readFileSync(path), content);
    assert.equal(here, `Basic ${Buffer.from("user:p@ss").toString("base64")}`);
    assert.equal(elsewhere, undefined);
  });

  it("refuses redirects that never end, lead nowhere, or leave encryption", async () => {
    const to = (location: string | undefined): WorldHandler => {
      return (_, response) => {
        if (location !== undefined) response.setHeader("location", location);
        response.writeHead(307).end();
      };
    };
    const cases: [string | undefined, RegExp][] = [
      ["/m.gguf", /redirects more than 5 times/],
      [undefined, /redirects to nowhere/],
      ["http://[", /redirects to nowhere/],
      ["http://192.0.2.1/m.gguf", /http:\/\/192.0.2.1\/m.gguf is not encrypted/],
      ["ftp://127.0.0.1/m.gguf", /is not encrypted/],
    ];
    for (const [location, message] of cases) {
      await using world = await aWorld(to(location));
      await assert.rejects(world.resolve(), failure("MODEL_SOURCE_FAILED", message));
    }
  });

  it("refuses http:// to another host, and URLs that name no GGUF file", async () => {
    await using world = await aWorld(sendContent);
    const cases: [string, RegExp][] = [
      ["http://192.0.2.1/m.gguf", /is not encrypted/],
      ["http://localhost.example/m.gguf", /is not encrypted/],
      ["https://host/folder/", /does not name a GGUF file/],
      ["https://host/m.safetensors?token=secret", /^https:\/\/host\/m.safetensors does not name/],
      ["https://host/..%2fm.gguf", /does not name a GGUF file/],
      ["https://", /does not name a GGUF file/],
    ];
    for (const [uri, message] of cases) {
      await assert.rejects(
        resolveModel(uri, world.options()),
        failure("MODEL_SOURCE_FAILED", message),
        uri,
      );
    }
  });

  it("prints neither password nor query in errors and progress", async () => {
    await using world = await aWorld((_, response) => response.writeHead(404).end());
    const uri = `${world.url.replace("://", "://user:hunter2@")}/m.gguf?key=secret`;
    const said: string[] = [];

    await resolveModel(
      uri,
      world.options({ onProgress: ({ message }) => said.push(message) }),
    ).catch((error) => said.push(error.message, error.remedy, JSON.stringify(error)));
    const aborted = AbortSignal.abort();
    await resolveModel(uri, world.options({ signal: aborted })).catch((e) => said.push(e.message));

    assert.ok(said.length >= 5);
    assert.doesNotMatch(said.join("\n"), /hunter2|secret/);
  });
});

function partial(response: ServerResponse, range: string): void {
  if (range !== "") response.setHeader("content-range", range);
  response.writeHead(206).end(content);
}
