import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";

import { openCheckpoint } from "../checkpoint.ts";
import { aHub, commit, sha256, weights } from "./hub-testing.ts";
import { failure, resolveInProcess, sendFile, serve, shortestMs, until } from "./testing.ts";

const later = "89abcdef0123456789abcdef0123456789abcdef";

describe("an hf:// source", () => {
  it("downloads what makes the model at the commit of a branch, and nothing else", async () => {
    await using hub = await aHub();
    const messages: string[] = [];

    const { path, revision } = await hub.resolve("hf://org/model", {
      onProgress: ({ message }) => messages.push(message),
    });

    assert.equal(revision, commit);
    assert.deepEqual(readdirSync(path).toSorted(), [
      ".quire.json",
      "chat_template.jinja",
      "config.json",
      "model.safetensors",
      "tokenizer.json",
    ]);
    assert.equal((await openCheckpoint(path)).tensors.size, 1);
    assert.match(
      messages.at(-1) ?? "",
      /^downloading org\/model at 01234567 from 127.0.0.1:\d+: 4 files, 200 kB, licence apache-2.0$/,
    );
  });

  it("asks the hub for the commit alone when it is cached, and for nothing when it is named", async () => {
    await using hub = await aHub();
    const first = await hub.resolve("hf://org/model");
    const before = hub.requests.length;

    const milliseconds = await shortestMs(async () =>
      assert.deepEqual(await hub.resolve("hf://org/model@main"), first),
    );

    assert.equal(hub.requests.length, before + 5);
    assert.ok(milliseconds < 50, `${milliseconds} ms`);
    await hub.close();
    assert.deepEqual(await hub.resolve(`hf://org/model@${commit}`), first);
  });

  it("takes a new commit of the branch", async () => {
    await using hub = await aHub();
    const first = await hub.resolve("hf://org/model");
    hub.moveTo(later);

    const second = await hub.resolve("hf://org/model");

    assert.equal(second.revision, later);
    assert.notEqual(second.path, first.path);
  });

  it("uses the copy it has when the hub cannot be reached, and says so", async () => {
    await using hub = await aHub();
    const first = await hub.resolve("hf://org/model");
    hub.override("", (_, response) => response.writeHead(503).end());
    const messages: string[] = [];

    const again = await hub.resolve("hf://org/model", {
      onProgress: ({ message }) => messages.push(message),
    });

    assert.deepEqual(again, first);
    assert.match(messages.join(), /answers 503 .*; using the copy of org\/model at 01234567/);
    await assert.rejects(
      hub.resolve("hf://org/model@other"),
      failure("MODEL_SOURCE_FAILED", /answers 503/),
    );
  });

  it("does not use its copy when the hub refuses", async () => {
    await using hub = await aHub();
    await hub.resolve("hf://org/model");
    hub.override("", (_, response) => response.writeHead(403).end());
    await assert.rejects(
      hub.resolve("hf://org/model"),
      failure("MODEL_SOURCE_FAILED", /answers 403/, /HF_TOKEN/),
    );
  });

  it("asks for the revision of the options before the one of the URI", async () => {
    await using hub = await aHub();
    await hub.resolve("hf://org/model@refs%2Fpr%2F1");
    await hub.resolve("hf://org/model@v1", { revision: "v2" });

    const revisions = hub.requests.map((line) => /revision\/([^?]+)/.exec(line)?.[1]);
    assert.ok(revisions.includes("refs%2Fpr%2F1"));
    assert.ok(revisions.includes("v2") && !revisions.includes("v1"));
  });

  it("sends the token to the hub and to no other host", async () => {
    const seen: [string, string | undefined][] = [];
    await using store = await serve((request, response) => {
      seen.push(["store", request.headers.authorization]);
      sendFile(request, response, weights);
    });
    await using hub = await aHub();
    hub.override("/model.safetensors", (_, response) => {
      response.setHeader("location", `${store.url}/blob`).writeHead(302).end();
    });
    hub.watch((request) => seen.push(["hub", request.headers.authorization]));

    await hub.resolve("hf://org/model", { token: "hf_secret" });

    const [hubTokens, storeTokens] = ["hub", "store"].map((host) =>
      seen.filter(([name]) => name === host).map(([, token]) => token),
    );
    assert.ok(hubTokens?.every((token) => token === "Bearer hf_secret"));
    assert.deepEqual(storeTokens, [undefined]);
  });

  it("does not follow a listing to another host", async () => {
    await using hub = await aHub();
    hub.override("/tree/", (_, response) => {
      response.setHeader("link", '<http://127.0.0.2:9/next>; rel="next"').end("[]");
    });
    await assert.rejects(
      hub.resolve("hf://org/model", { token: "hf_secret" }),
      failure("MODEL_SOURCE_FAILED", /sends on to http:\/\/127.0.0.2:9/),
    );
  });

  it("follows the pages of a listing", async () => {
    await using hub = await aHub();
    hub.override("expand=false", (request, response) => {
      const next = request.url?.replace("expand=false", "page=2");
      response.setHeader("link", `<${hub.url}${next}>; rel="next"`).end("[]");
    });
    const { path } = await hub.resolve("hf://org/model");
    assert.ok(existsSync(join(path, "model.safetensors")));
  });

  it("explains refusals, and never prints the token", async () => {
    const cases: [number, RegExp, RegExp][] = [
      [401, /answers 401/, /gated model.*token \(HF_TOKEN\)/],
      [403, /answers 403/, /gated model.*token \(HF_TOKEN\)/],
      [404, /answers 404/, /name and revision/],
      [429, /answers 429/, /limits requests/],
      [500, /answers 500/, /in trouble/],
    ];
    for (const [status, message, remedy] of cases) {
      await using hub = await aHub();
      hub.override("", (_, response) => response.writeHead(status).end("{}"));
      await assert.rejects(
        hub.resolve("hf://org/model", { token: "hf_secret" }),
        (error: Error) => {
          assert.doesNotMatch(JSON.stringify(error) + error.message + error.stack, /hf_secret/);
          return failure("MODEL_SOURCE_FAILED", message, remedy)(error);
        },
      );
    }
  });

  it("refuses answers that are not the hub's", async () => {
    const cases: [string, string, RegExp][] = [
      ["/revision/", `{"sha": "main"}`, /names no commit for main/],
      ["/revision/", `{}`, /names no commit for main/],
      ["/tree/", `[{"type": "file", "path": "a.gguf", "size": 1}]`, /without path, size or digest/],
      [
        "/tree/",
        `[{"type": "file", "path": "a.gguf", "oid": "x", "size": -1}]`,
        /without path, size/,
      ],
      ["/tree/", `[{"type": "file", "path": 3, "oid": "x", "size": 1}]`, /without path, size/],
    ];
    for (const [part, answer, message] of cases) {
      await using hub = await aHub();
      hub.override(part, (_, response) => {
        response.setHeader("content-type", "application/json").end(answer);
      });
      await assert.rejects(hub.resolve("hf://org/model"), failure("MODEL_SOURCE_FAILED", message));
    }
  });

  it("refuses an answer that is larger than any listing", async () => {
    await using hub = await aHub();
    hub.override("/tree/", (_, response) => response.end(Buffer.alloc(33 * 2 ** 20, " ")));
    await assert.rejects(
      hub.resolve("hf://org/model"),
      failure("MODEL_SOURCE_FAILED", /answers with more than 33554432 bytes/),
    );
  });

  it("names both checksums of a large file, and both objects of a small one, that differ", async () => {
    for (const [name, message] of [
      ["model.safetensors", /org\/model\/model.safetensors has the checksum/],
      ["config.json", /org\/model\/config.json has the git object/],
    ] as const) {
      await using hub = await aHub();
      hub.override(`/${name}`, (request, response) => {
        sendFile(request, response, Buffer.alloc(hub.files[name]?.length ?? 0, 1));
      });
      const code = name === "config.json" ? "MODEL_SOURCE_FAILED" : "CHECKSUM_MISMATCH";

      await assert.rejects(hub.resolve("hf://org/model"), failure(code, message));

      hub.override(undefined);
      const { path } = await hub.resolve("hf://org/model");
      assert.deepEqual(readFileSync(join(path, name)), hub.files[name]);
    }
  });

  it("refuses a file of another size than the hub lists", async () => {
    await using hub = await aHub();
    hub.override("/model.safetensors", (request, response) => {
      sendFile(request, response, Buffer.alloc(5));
    });
    await assert.rejects(
      hub.resolve("hf://org/model"),
      failure("MODEL_SOURCE_FAILED", /announces 5 bytes, but the file has 200\d+/),
    );
  });

  it("checks the checksum of a model of several files", async () => {
    await using hub = await aHub();
    const names = ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"];
    const list = names.map((name) => `${sha256(hub.files[name])}  ${name}\n`).join("");

    await hub.resolve("hf://org/model", { checksum: sha256(Buffer.from(list)) });
    await assert.rejects(
      hub.resolve("hf://org/model", { checksum: "0".repeat(64) }),
      failure("CHECKSUM_MISMATCH"),
    );
  });

  it("goes on from a downloader that was killed, and keeps the files that it finished", async () => {
    await using hub = await aHub();
    hub.override("/model.safetensors", (_, response) => {
      response.setHeader("etag", '"one"').setHeader("content-length", weights.length);
      response.write(weights.subarray(0, 90_000));
    });
    const { cacheDir, hubUrl = "" } = hub.options();
    const child = resolveInProcess("hf://org/model", { cacheDir, hubUrl });
    const there = () => (existsSync(join(cacheDir, "hf")) ? stagedFiles(join(cacheDir, "hf")) : []);
    await until(
      () => there().filter(isWhole).length === 3 && there().some(isPartOf(90_000)),
      "the three small files and a part of the large one",
    );
    child.kill("SIGKILL");
    await once(child, "close");
    hub.override(undefined);
    const before = hub.requests.length;

    const { path } = await hub.resolve("hf://org/model");

    assert.deepEqual(readFileSync(join(path, "model.safetensors")), weights);
    const downloads = hub.requests.slice(before).filter((line) => line.includes("/resolve/"));
    assert.equal(downloads.length, 1);
    assert.match(downloads[0] ?? "", /model.safetensors bytes=90000-$/);
  });

  it("stops all its downloads when one fails", async () => {
    await using hub = await aHub();
    hub.override("/resolve/", (request, response) => {
      if (request.url?.endsWith("/config.json")) response.writeHead(404).end();
    });
    const start = performance.now();
    await assert.rejects(
      hub.resolve("hf://org/model"),
      failure("MODEL_SOURCE_FAILED", /config.json answers 404/),
    );
    assert.ok(performance.now() - start < 10_000, "the silent ones were not waited for");
  });
});

/** Paths of what lies in staging folders under `folder`. */
function stagedFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((name) => /\.partial\/.+/.test(name));
}

function isWhole(path: string): boolean {
  return !/\.part(\.json)?$/.test(path);
}

function isPartOf(byteLength: number): (path: string) => boolean {
  return (path) => path.endsWith(".part") && statSync(path).size === byteLength;
}
