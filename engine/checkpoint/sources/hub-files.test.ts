import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { describe, it } from "node:test";

import { resolveModel } from "../sources.ts";
import { aGguf, aSafetensors, temporaryFolder } from "../testing.ts";
import { aHub } from "./hub-testing.ts";
import { failure } from "./testing.ts";

describe("the files of an hf:// source", () => {
  it("downloads shards by their names and not a second copy of the weights", async () => {
    const shard = aSafetensors({ w: { dtype: "F32", shape: [1], data_offsets: [0, 4] } }, 4);
    await using hub = await aHub({
      "config.json": Buffer.from("{}"),
      "model-00001-of-00001.safetensors": shard,
      "consolidated.safetensors": shard,
      "pytorch_model.bin": shard,
    });

    const { path } = await hub.resolve("hf://org/model");

    assert.deepEqual(readdirSync(path).toSorted(), [
      ".quire.json",
      "config.json",
      "model-00001-of-00001.safetensors",
    ]);
  });

  it("resolves a repository's only GGUF file, or the one that is named, to the file", async () => {
    await using one = await aHub({ "m.gguf": aGguf(), "config.json": Buffer.from("{}") });
    const { path } = await one.resolve("hf://org/model");
    assert.equal(basename(path), "m.gguf");
    assert.deepEqual(readFileSync(path), aGguf());

    await using two = await aHub({ "a.gguf": aGguf(), "q4/b c.gguf": aGguf({ version: 2 }) });
    const named = await two.resolve("hf://org/model@main/q4/b c.gguf");
    assert.deepEqual(readFileSync(named.path), aGguf({ version: 2 }));

    await assert.rejects(
      two.resolve("hf://org/model/c.gguf"),
      failure("MODEL_SOURCE_FAILED", /has no c.gguf/, /a.gguf/),
    );
  });

  it("refuses repositories that do not say which model they hold", async () => {
    const cases: [Record<string, Buffer>, RegExp, RegExp][] = [
      [
        { "a.gguf": aGguf(), "b.gguf": aGguf() },
        /hf:\/\/org\/model has 2 GGUF files/,
        /as in hf:\/\/org\/model\/a.gguf; it has a.gguf, b.gguf/,
      ],
      [{ "x.bin": aGguf() }, /has neither safetensors nor a GGUF file/, /copy of the model/],
    ];
    for (const [files, message, remedy] of cases) {
      await using hub = await aHub(files);
      await assert.rejects(
        hub.resolve("hf://org/model"),
        failure("MODEL_SOURCE_FAILED", message, remedy),
      );
    }
  });

  it("leaves listed files alone whose names leave the folder", async () => {
    await using hub = await aHub({
      "m.gguf": aGguf(),
      "../evil.gguf": aGguf(),
      "..\\evil.gguf": aGguf(),
      ".hidden.gguf": aGguf(),
    });
    const { path } = await hub.resolve("hf://org/model");
    assert.equal(basename(path), "m.gguf");
  });

  it("refuses URIs that name no model", async () => {
    using folder = temporaryFolder();
    const uris = [
      "hf://model",
      "hf://../model",
      "hf://org/..",
      "hf://org/model/x.bin",
      "hf://org/model/../x.gguf",
      "hf://org/model@",
      "hf://org/model@a/../b.gguf",
      "hf://org/mo del",
    ];
    for (const uri of uris) {
      await assert.rejects(
        resolveModel(uri, { cacheDir: folder.path, hubUrl: "http://127.0.0.1:1" }),
        failure("MODEL_SOURCE_FAILED", /does not name a model of a hub/),
        uri,
      );
    }
    for (const revision of ["", "a b", "../x", "a?b", "%2e%2e"]) {
      await assert.rejects(
        resolveModel("hf://org/model", { cacheDir: folder.path, revision }),
        failure("MODEL_SOURCE_FAILED", /is not a revision/),
        revision,
      );
    }
    await assert.rejects(
      resolveModel("hf://org/model", { cacheDir: folder.path, hubUrl: "http://192.0.2.1" }),
      failure("MODEL_SOURCE_FAILED", /is not encrypted/),
    );
  });
});
