import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";

import { EngineError } from "../errors.ts";
import { openCheckpoint } from "./checkpoint.ts";
import { aGguf, aSafetensors, temporaryFolder } from "./testing.ts";

type Files = Readonly<Record<string, string | Buffer>>;

const aModel: Files = {
  "config.json": `{"model_type": "llama"}`,
  "tokenizer.json": `{"version": "1.0"}`,
};

describe("openCheckpoint", () => {
  it("opens a GGUF file and a folder that holds exactly one", async () => {
    using folder = aFolder({ "m.gguf": aGguf(), "README.md": "" });

    for (const path of [folder.path, join(folder.path, "m.gguf")]) {
      const checkpoint = await openCheckpoint(path);

      assert.deepEqual(checkpoint.files, [join(folder.path, "m.gguf")]);
      assert.equal(checkpoint.source.format, "gguf");
      assert.equal(checkpoint.tensors.get("token_embd.weight")?.file, 0);
    }
  });

  it("opens a folder with one safetensors file and what describes it", async () => {
    using folder = aFolder({
      ...aModel,
      "model.safetensors": weights("w"),
      "other.safetensors": "not read",
      "model.safetensors.index.json": "not read",
      "generation_config.json": `{"eos_token_id": 2}`,
      "tokenizer_config.json": `{"chat_template": "from the tokenizer"}`,
      "chat_template.jinja": "from the file",
    });

    const { files, source, tensors } = await openCheckpoint(folder.path);

    assert.deepEqual(files, [join(folder.path, "model.safetensors")]);
    assert.deepEqual([...tensors.keys()], ["w"]);
    assert.ok(source.format === "safetensors");
    assert.deepEqual(source.config, { model_type: "llama" });
    assert.deepEqual(source.generationConfig, { eos_token_id: 2 });
    assert.equal(source.tokenizerJson, `{"version": "1.0"}`);
    assert.equal(source.chatTemplate, "from the file");
  });

  it("takes the chat template of tokenizer_config.json, or its default one of several", async () => {
    const several = [
      { name: "tool_use", template: "no" },
      { name: "default", template: "yes" },
    ];
    const cases: [unknown, string | undefined][] = [
      ["text", "text"],
      [several, "yes"],
      [several.slice(0, 1), undefined],
      [[null, 3], undefined],
      [undefined, undefined],
    ];
    for (const [template, expected] of cases) {
      using folder = aFolder({
        ...aModel,
        "model.safetensors": weights("w"),
        "tokenizer_config.json": JSON.stringify({ chat_template: template }),
      });
      const { source } = await openCheckpoint(folder.path);
      assert.equal(source.format === "safetensors" && source.chatTemplate, expected);
    }
  });

  it("opens shards by their index, which decides where a tensor is read", async () => {
    using folder = aFolder({
      ...aModel,
      "model-1.safetensors": weights("a", "both"),
      "model-2.safetensors": weights("both", "b", "ignored"),
      "model.safetensors.index.json": anIndex({
        a: "model-1.safetensors",
        both: "model-2.safetensors",
        b: "model-2.safetensors",
      }),
    });

    const { files, tensors } = await openCheckpoint(folder.path);

    assert.deepEqual(files, [
      join(folder.path, "model-1.safetensors"),
      join(folder.path, "model-2.safetensors"),
    ]);
    assert.deepEqual(
      [...tensors.values()].map(({ name, file }) => [name, file]),
      [
        ["a", 0],
        ["both", 1],
        ["b", 1],
      ],
    );
  });

  it("follows symbolic links out of the folder, as in the hub's cache", async () => {
    using blobs = aFolder({ blob: weights("w") });
    using folder = aFolder(aModel);
    symlinkSync(join(blobs.path, "blob"), join(folder.path, "model.safetensors"));

    assert.equal((await openCheckpoint(folder.path)).tensors.size, 1);
  });

  const shard = { ...aModel, "model-1.safetensors": weights("a") };
  const hostile: [string, Files, RegExp][] = [
    ["an empty folder", {}, /no \*.safetensors and no \*.gguf/],
    ["pickled weights", { "pytorch_model.bin": "" }, /no \*.safetensors/],
    ["two GGUF files", { "b.gguf": "", "a.GGUF": "" }, /2 GGUF files: "a.GGUF", "b.gguf"/],
    [
      "a folder without config.json",
      { "model.safetensors": weights("w") },
      /config.json is missing/,
    ],
    [
      "a folder without tokenizer.json",
      { "config.json": "{}", "model.safetensors": weights("w") },
      /tokenizer.json is missing/,
    ],
    [
      "a config.json that is not an object",
      { ...aModel, "config.json": "[]", "model.safetensors": weights("w") },
      /config.json: the JSON is not an object/,
    ],
    [
      "a config.json over its limit",
      { ...aModel, "config.json": Buffer.alloc(16 * 2 ** 20 + 1), "model.safetensors": "" },
      /config.json: 16777217 bytes exceed the limit of 16777216/,
    ],
    [
      "a tokenizer.json that is not UTF-8",
      { ...aModel, "tokenizer.json": Buffer.from([0xff]), "model.safetensors": weights("w") },
      /tokenizer.json: the text is not valid UTF-8/,
    ],
    [
      "a chat template that is not UTF-8",
      { ...aModel, "chat_template.jinja": Buffer.from([0xff]), "model.safetensors": weights("w") },
      /chat_template.jinja: the text is not valid UTF-8/,
    ],
    [
      "several safetensors files without an index",
      { ...aModel, "a.safetensors": "", "b.safetensors": "" },
      /2 safetensors files, but no model.safetensors.index.json/,
    ],
    ["an index without a map", { ...shard, ...indexFile(`{}`) }, /weight_map is not an object/],
    [
      "an index that names a tensor twice",
      {
        ...shard,
        ...indexFile(`{"weight_map":{"a":"model-1.safetensors","a":"model-1.safetensors"}}`),
      },
      /the JSON repeats the key "a"/,
    ],
    ...[
      "../model-1.safetensors",
      "/etc/x.safetensors",
      "sub/x.safetensors",
      "..\\x.safetensors",
      "x\0.safetensors",
      "a.bin",
      3,
      null,
      "",
    ].map((name): [string, Files, RegExp] => [
      `an index that names ${JSON.stringify(name)}`,
      { ...shard, ...indexFile(JSON.stringify({ weight_map: { a: name } })) },
      /tensor "a": its shard .* is not the name of a safetensors file beside the index/,
    ]),
    [
      "an index of a shard that is not there",
      { ...shard, ...indexFile(anIndex({ a: "model-2.safetensors" })) },
      /model-2.safetensors: cannot be read: ENOENT/,
    ],
    [
      "an index of a tensor that its shard does not hold",
      { ...shard, ...indexFile(anIndex({ z: "model-1.safetensors" })) },
      /model-1.safetensors: tensor "z": not in the file/,
    ],
    [
      "an index of more shards than any model has",
      {
        ...shard,
        ...indexFile(
          anIndex(
            Object.fromEntries(
              Array.from({ length: 4097 }, (_, i) => [`${i}`, `${i}.safetensors`]),
            ),
          ),
        ),
      },
      /4097 shards exceed the limit of 4096/,
    ],
  ];
  for (const [name, files, message] of hostile) {
    it(`refuses ${name}`, async () => {
      using folder = aFolder(files);
      await assert.rejects(openCheckpoint(folder.path), isInvalid(message));
    });
  }

  it("refuses a path that is missing, unreadable, a pipe, or weights alone", async () => {
    using folder = aFolder({ "w.safetensors": weights("w") });
    const pipe = join(folder.path, "pipe.gguf");
    execFileSync("mkfifo", [pipe]);
    mkdirSync(join(folder.path, "sub.gguf"));

    const cases: [string, RegExp][] = [
      [join(folder.path, "none"), /none: cannot be read: ENOENT/],
      [`${folder.path}\0`, /cannot be read/],
      [pipe, /pipe.gguf: not a regular file/],
      [join(folder.path, "w.safetensors"), /weights without the rest of their model/],
      [join(folder.path, "w.safetensors", "x"), /cannot be read: ENOTDIR/],
    ];
    for (const [path, message] of cases) {
      await assert.rejects(openCheckpoint(path), isInvalid(message));
    }
  });

  it("refuses a folder that it may not list", {
    skip: process.getuid?.() === 0 && "root may list every folder",
  }, async () => {
    using folder = aFolder({});
    chmodSync(folder.path, 0o000);
    await assert.rejects(openCheckpoint(folder.path), isInvalid(/cannot be read: EACCES/));
  });
});

function aFolder(files: Files) {
  const folder = temporaryFolder();
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(folder.path, name), content);
  }
  return folder;
}

/** A safetensors file with a vector of one F32 for each name. */
function weights(...names: string[]): Buffer {
  const entries = names.map((name, i) => [
    name,
    { dtype: "F32", shape: [1], data_offsets: [i * 4, i * 4 + 4] },
  ]);
  return aSafetensors(Object.fromEntries(entries), names.length * 4);
}

function anIndex(weightMap: Readonly<Record<string, string>>): string {
  return JSON.stringify({ metadata: {}, weight_map: weightMap });
}

function indexFile(text: string): Files {
  return { "model.safetensors.index.json": text };
}

function isInvalid(message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof EngineError, String(error));
    assert.equal(error.code, "CHECKPOINT_INVALID");
    assert.match(error.message, message);
    return true;
  };
}
