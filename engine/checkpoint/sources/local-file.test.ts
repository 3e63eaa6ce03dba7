import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { pathToFileURL } from "node:url";

import { resolveModel } from "../sources.ts";
import { temporaryFolder } from "../testing.ts";
import { failure } from "./testing.ts";

describe("a local source", () => {
  it("resolves paths and file:// URLs to the place itself", async () => {
    using folder = temporaryFolder();
    const file = join(folder.path, "a model.gguf");
    writeFileSync(file, "x");
    const options = { cacheDir: join(folder.path, "cache") };

    for (const uri of [file, pathToFileURL(file).href, `file://${folder.path}/a model.gguf`]) {
      assert.deepEqual(await resolveModel(uri, options), { path: file }, uri);
    }
    assert.deepEqual(await resolveModel(folder.path, options), { path: folder.path });
    assert.deepEqual(await resolveModel("package.json", options), {
      path: join(process.cwd(), "package.json"),
    });
    assert.deepEqual(readdirSync(folder.path), ["a model.gguf"], "it writes nothing");
  });

  it("refuses what is not there, and URLs that are not of this machine", async () => {
    const cases: [string, RegExp, RegExp][] = [
      ["/no/such/model", /the model \/no\/such\/model cannot be opened: ENOENT/, /mounted/],
      ["file:///no/such/model", /cannot be opened: ENOENT/, /mounted/],
      ["file://models/m.gguf", /is not the URL of a local file/, /three slashes/],
      ["file:m.gguf", /is not the URL of a local file/, /three slashes/],
      ["file:///a%2fb", /is not the URL of a local file/, /three slashes/],
      ["file:///%zz", /is not the URL of a local file/, /three slashes/],
      ["/a\0b", /cannot be opened/, /path/],
    ];
    for (const [uri, message, remedy] of cases) {
      await assert.rejects(
        resolveModel(uri, { cacheDir: "/nowhere" }),
        failure("MODEL_SOURCE_FAILED", message, remedy),
        uri,
      );
    }
  });

  it("verifies the checksum of a file, and hashes it again only when it changed", async () => {
    using folder = temporaryFolder();
    const file = join(folder.path, "m.gguf");
    writeFileSync(file, "content");
    const checksum = sha256("content");
    const messages: string[] = [];
    const resolve = () =>
      resolveModel(file, {
        cacheDir: join(folder.path, "cache"),
        checksum,
        onProgress: ({ message }) => messages.push(message),
      });

    await resolve();
    await resolve();
    assert.equal(messages.length, 1);
    utimesSync(file, 1, 1);
    await resolve();
    assert.equal(messages.length, 2);

    writeFileSync(file, "CONTENT");
    await assert.rejects(
      resolve(),
      failure("CHECKSUM_MISMATCH", new RegExp(`${sha256("CONTENT")}, not sha256:${checksum}`)),
    );
    assert.equal(readFileSync(file, "utf8"), "CONTENT", "what is not ours is not deleted");
  });

  it("does not take a verified checksum for another one", async () => {
    using folder = temporaryFolder();
    const file = join(folder.path, "m.gguf");
    writeFileSync(file, "content");
    const cacheDir = join(folder.path, "cache");

    await resolveModel(file, { cacheDir, checksum: sha256("content") });
    await assert.rejects(
      resolveModel(file, { cacheDir, checksum: sha256("other") }),
      failure("CHECKSUM_MISMATCH"),
    );
  });

  it("verifies a folder against the list that sha256sum prints", async () => {
    using folder = temporaryFolder();
    for (const name of ["b.json", "a.safetensors", ".hidden"]) {
      writeFileSync(join(folder.path, name), name);
    }
    mkdirSync(join(folder.path, "sub"));
    using cache = temporaryFolder();
    const list = ["a.safetensors", "b.json"].map((name) => `${sha256(name)}  ${name}\n`).join("");

    await resolveModel(folder.path, { cacheDir: cache.path, checksum: sha256(list) });
    await assert.rejects(
      resolveModel(folder.path, { cacheDir: cache.path, checksum: sha256("a.safetensors") }),
      failure("CHECKSUM_MISMATCH"),
    );
  });
});

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
