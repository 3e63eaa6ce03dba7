import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { EngineError } from "../errors.ts";
import { ApiKeys } from "./auth.ts";
import { aServer, until } from "./test-server.ts";

describe("API keys", () => {
  it("are asked for by every route but the probes", async (t) => {
    const { app } = await aServer({ apiKeys: keysOf(t, "# ours\nsecret\n\n  other  \n").keys });
    const statusOf = async (url: string, key?: string) => {
      const headers = key === undefined ? {} : { authorization: key };
      return (await app.inject({ url, headers })).statusCode;
    };

    for (const url of [
      "/v1/models",
      "/metrics",
      "/version",
      "/openapi.json",
      "/nothing",
      "/healthy",
    ]) {
      assert.equal(await statusOf(url), 401, url);
      assert.equal(await statusOf(url, "Bearer wrong"), 401, url);
      assert.equal(await statusOf(url, "Basic secret"), 401, url);
      assert.notEqual(await statusOf(url, "Bearer secret"), 401, url);
    }
    for (const url of ["/health", "/health/live", "/health/ready", "/health/startup"]) {
      assert.equal(await statusOf(url), 200, url);
    }
    assert.equal(await statusOf("/v1/models", "bearer other"), 200);
    assert.equal(await statusOf("/v1/models", "Bearer # ours"), 401);
    assert.equal(await statusOf("/health/../v1/models"), 401);
  });

  it("are checked before the body is read", async (t) => {
    const { app } = await aServer({ apiKeys: keysOf(t, "secret").keys });

    const answer = await app.inject({ method: "POST", url: "/v1/completions", payload: "{" });

    assert.equal(answer.statusCode, 401);
    assert.equal(answer.headers["www-authenticate"], "Bearer");
    assert.equal(answer.json().error.code, "unauthorized");
    assert.ok(!answer.body.includes("secret"));
  });

  it("are read again when the file changes, also through a swapped link", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "quire-keys-"));
    t.after(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, "first"), "old\n");
    writeFileSync(join(folder, "second"), "new key\nnew\n");
    symlinkSync("first", join(folder, "keys"));
    const reloads: unknown[] = [];
    const keys = new ApiKeys(join(folder, "keys"), (error) => reloads.push(error), 5);
    t.after(() => keys.close());

    symlinkSync("second", join(folder, "swap"));
    renameSync(join(folder, "swap"), join(folder, "keys"));
    await until(() => reloads.length > 0, "the keys are read again");
    await new Promise((resolve) => setTimeout(resolve, 30));

    assert.deepEqual(reloads, [undefined]);
    keys.check("Bearer new");
    assert.throws(() => keys.check("Bearer old"), isUnauthorized);
  });

  it("stay while the file is empty or gone", async (t) => {
    const { keys, path, reloads } = keysOf(t, "secret");

    writeFileSync(path, "# nothing\n");
    await until(() => reloads.length > 0, "the change is seen");

    rmSync(path);
    await until(() => reloads.length > 1, "the loss is seen");
    writeFileSync(path, "next\n");
    keys.check("Bearer secret");
    await until(() => reloads.length > 2, "the new file is seen");

    assert.ok(reloads[0] instanceof EngineError && reloads[1] instanceof EngineError);
    assert.equal(reloads[2], undefined);
    keys.check("Bearer next");
  });

  it("must be there at the start", (t) => {
    const isInvalid = (error: unknown) =>
      error instanceof EngineError && error.code === "CONFIG_INVALID";

    assert.throws(() => new ApiKeys("/nonexistent/keys", () => {}), isInvalid);
    assert.throws(() => keysOf(t, "# only a comment\n"), isInvalid);
  });
});

function keysOf(t: TestContext, content: string) {
  const folder = mkdtempSync(join(tmpdir(), "quire-keys-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "keys");
  writeFileSync(path, content);
  const reloads: unknown[] = [];
  const keys = new ApiKeys(path, (error) => reloads.push(error), 5);
  t.after(() => keys.close());
  return { keys, path, reloads };
}

function isUnauthorized(error: unknown): boolean {
  return error instanceof EngineError && error.code === "UNAUTHORIZED";
}
