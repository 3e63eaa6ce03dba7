import assert from "node:assert/strict";
import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { limitLog } from "./limit-log.ts";

describe("limitLog", () => {
  it("moves a log that has grown too long aside, and its writer goes on", async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "quire-log-"));
    t.after(() => rm(folder, { recursive: true }));
    const file = join(folder, "pod.log");
    await limitLog(file, 10);
    const writer = await open(file, "a");
    t.after(() => writer.close());

    await writer.write("0123456789");
    await limitLog(file, 10);
    assert.equal(await readFile(file, "utf8"), "0123456789");
    await writer.write("x");
    await limitLog(file, 10);
    await writer.write("new");

    assert.equal(await readFile(`${file}.1`, "utf8"), "0123456789x");
    assert.equal(await readFile(file, "utf8"), "new");
  });
});
