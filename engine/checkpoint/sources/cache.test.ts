import assert from "node:assert/strict";
import { once } from "node:events";
import {
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";

import { defaultCacheDir } from "./cache.ts";
import {
  aWorld,
  content,
  contentSha256,
  failure,
  resolveInProcess,
  sendContent,
  sendFile,
  sendSome,
} from "./testing.ts";

describe("the cache of downloads", () => {
  it("is where XDG_CACHE_HOME says, or in the home folder", () => {
    assert.equal(defaultCacheDir("/data/cache"), "/data/cache/quire");
    assert.match(defaultCacheDir(undefined), /^\/.*\/\.cache\/quire$/);
    assert.equal(defaultCacheDir(""), defaultCacheDir(undefined));
    assert.equal(defaultCacheDir("relative"), defaultCacheDir(undefined));
  });

  it("deletes a file of another checksum and names both", async () => {
    await using world = await aWorld(sendContent);
    const wrong = "0".repeat(64);

    await assert.rejects(
      world.resolve({ checksum: `sha256:${wrong}` }),
      failure("CHECKSUM_MISMATCH", new RegExp(`sha256:${contentSha256}, not sha256:${wrong}`)),
    );

    assert.deepEqual(readdirSync(join(world.cacheDir, "https")), []);
    const { path } = await world.resolve({ checksum: contentSha256.toUpperCase() });
    assert.deepEqual(readFileSync(path), content);
  });

  it("refuses a checksum that is none", async () => {
    await using world = await aWorld(sendContent);
    for (const checksum of ["", "sha256:", "md5:00", "0".repeat(63), "0".repeat(65)]) {
      await assert.rejects(world.resolve({ checksum }), failure("CONFIG_INVALID"));
    }
    assert.deepEqual(world.requests, []);
  });

  it("downloads again when the cached file is not the one of the checksum", async () => {
    const older = Buffer.from("older");
    await using world = await aWorld((_, response) => response.end(older), sendContent);
    const first = await world.resolve();
    assert.deepEqual(readFileSync(first.path), older);

    const second = await world.resolve({ checksum: contentSha256 });

    assert.deepEqual(readFileSync(second.path), content);
    assert.equal(readdirSync(join(world.cacheDir, "https")).length, 1);
  });

  it("keeps the cached file when the server has no better one for the checksum", async () => {
    await using world = await aWorld(sendContent);
    const { path } = await world.resolve();

    await assert.rejects(world.resolve({ checksum: "1".repeat(64) }), failure("CHECKSUM_MISMATCH"));

    assert.deepEqual(readFileSync(path), content);
    await world.resolve();
    assert.equal(world.requests.length, 2);
  });

  it("hashes a file that was touched, once, and keeps it", async () => {
    await using world = await aWorld(sendContent);
    const { path } = await world.resolve();
    const record = join(dirname(path), ".quire.json");
    const before = readFileSync(record, "utf8");

    utimesSync(path, new Date(), new Date(0));
    await world.resolve();

    assert.equal(world.requests.length, 1);
    const after = JSON.parse(readFileSync(record, "utf8"));
    assert.equal(after.files[0].modified, "0");
    assert.notEqual(before, JSON.stringify(after));
  });

  it("downloads again what was changed, cut or deleted in the cache", async () => {
    await using world = await aWorld(sendContent);
    const { path } = await world.resolve();
    const changed = Buffer.from(content);
    changed[7] = 255 - (changed[7] ?? 0);

    for (const bytes of [changed, content.subarray(1), Buffer.alloc(0)]) {
      writeFileSync(path, bytes);
      const before = world.requests.length;
      await world.resolve();
      assert.equal(world.requests.length, before + 1);
      assert.deepEqual(readFileSync(path), content);
    }
  });

  it("downloads again what was cut without a trace in its time of modification", async () => {
    await using world = await aWorld(sendContent);
    const { path } = await world.resolve();
    const recordFile = join(dirname(path), ".quire.json");
    writeFileSync(path, content.subarray(1));
    const record = JSON.parse(readFileSync(recordFile, "utf8"));
    record.files[0].modified = String(statSync(path, { bigint: true }).mtimeNs);
    writeFileSync(recordFile, JSON.stringify(record));

    await world.resolve();

    assert.equal(world.requests.length, 2);
  });

  it("downloads once for many that ask in one process", async () => {
    await using world = await aWorld(sendContent);

    const resolved = await Promise.all(Array.from({ length: 8 }, () => world.resolve()));

    assert.equal(new Set(resolved.map(({ path }) => path)).size, 1);
    assert.deepEqual(world.requests, ["GET /m.gguf"]);
  });

  it("downloads again when its record is damaged", async () => {
    await using world = await aWorld(sendContent);
    const { path } = await world.resolve();

    for (const record of ["", "{}", "null", `{"files":[]}`, `{"files":[{"name":"m.gguf"}]}`]) {
      writeFileSync(join(dirname(path), ".quire.json"), record);
      const before = world.requests.length;
      await world.resolve();
      assert.equal(world.requests.length, before + 1, record);
    }
    assert.deepEqual(readFileSync(path), content);
  });

  it("starts again from a part whose note is damaged, or that is longer than its whole", async () => {
    for (const note of ["", "{", `{"validator":"\\"one\\"","totalBytes":3}`]) {
      await using world = await aWorld(
        sendSome(content, 50_000, '"one"', (response) => response.destroy()),
        sendContent,
      );
      await assert.rejects(world.resolve({ limits: { attempts: 1 } }));
      const [entry = ""] = readdirSync(join(world.cacheDir, "https"));
      const noteFile = join(world.cacheDir, "https", entry, "m.gguf.part.json");
      assert.ok(existsSync(noteFile));
      writeFileSync(noteFile, note);

      const { path } = await world.resolve();

      assert.equal(world.requests[1], "GET /m.gguf");
      assert.deepEqual(readFileSync(path), content);
    }
  });

  it("asks for nothing more when the last byte is there", async () => {
    await using world = await aWorld(
      sendSome(content, 50_000, '"one"', (response) => response.destroy()),
      sendContent,
    );
    await assert.rejects(world.resolve({ limits: { attempts: 1 } }));
    const [entry = ""] = readdirSync(join(world.cacheDir, "https"));
    writeFileSync(join(world.cacheDir, "https", entry, "m.gguf.part"), content);

    const { path } = await world.resolve({ checksum: contentSha256 });

    assert.deepEqual(readFileSync(path), content);
    assert.equal(world.requests.length, 1);
  });

  it("stops when it is told to, and resumes later", async () => {
    const controller = new AbortController();
    await using world = await aWorld(
      sendSome(content, 50_000, '"one"', () => controller.abort()),
      sendContent,
    );

    await assert.rejects(
      world.resolve({ signal: controller.signal }),
      failure("ABORTED", /was cancelled/),
    );

    await world.resolve();
    assert.equal(world.requests[1], "GET /m.gguf bytes=50000-");
  });

  it("explains a cache folder that cannot be written", async () => {
    await using world = await aWorld(sendContent);
    const notAFolder = join(world.cacheDir, "file");
    writeFileSync(notAFolder, "");

    await assert.rejects(
      world.resolve({ cacheDir: notAFolder }),
      failure("MODEL_SOURCE_FAILED", /m.gguf cannot be stored: (ENOTDIR|EEXIST)/, /is writable/),
    );
  });

  it("downloads once for two processes that ask at the same time", async () => {
    await using world = await aWorld((request, response) => {
      setTimeout(() => sendFile(request, response, content), 1_500);
    });
    const options = { cacheDir: world.cacheDir };
    const children = [1, 2].map(() => resolveInProcess(`${world.url}/m.gguf`, options));

    const outputs = await Promise.all(children.map(linesOf));

    assert.deepEqual(world.requests, ["GET /m.gguf"]);
    const paths = outputs.map((lines) => JSON.parse(lines.at(-1) ?? "").path);
    assert.equal(paths[0], paths[1]);
    assert.deepEqual(readFileSync(paths[0]), content);
    assert.ok(outputs.flat().some((line) => line.includes("waiting for process")));
  });

  it("goes on from a downloader that was killed, whose lock counts no longer", async () => {
    const sent = Promise.withResolvers<void>();
    await using world = await aWorld(
      sendSome(content, 123_456, '"one"', () => sent.resolve()),
      sendContent,
    );
    const child = resolveInProcess(`${world.url}/m.gguf`, { cacheDir: world.cacheDir });
    await sent.promise;
    child.kill("SIGKILL");
    await once(child, "close");

    const { path } = await world.resolve({ checksum: contentSha256 });

    assert.deepEqual(readFileSync(path), content);
    assert.equal(world.requests[1], "GET /m.gguf bytes=123456-");
    assert.deepEqual(readdirSync(join(world.cacheDir, "https")).length, 1);
  });

  it("deletes what a process left that was killed while it replaced an entry", async () => {
    await using world = await aWorld(sendContent);
    const { path } = await world.resolve();
    writeFileSync(path, "damaged");
    writeFileSync(`${dirname(path)}.old-1234`, "");

    await world.resolve();

    assert.deepEqual(readdirSync(join(world.cacheDir, "https")).length, 1);
  });
});

async function linesOf(child: ReturnType<typeof resolveInProcess>): Promise<string[]> {
  let output = "";
  child.stdout?.setEncoding("utf8").on("data", (text) => {
    output += text;
  });
  const [code] = await once(child, "close");
  assert.equal(code, 0, output);
  return output.trim().split("\n");
}
