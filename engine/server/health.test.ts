import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { EngineStats } from "../generation.ts";
import { buildApp } from "./app.ts";
import { Lifecycle } from "./lifecycle.ts";
import { aServer } from "./test-server.ts";

describe("health", () => {
  it("is ready on both paths while serving", async () => {
    const { app } = await aServer();

    for (const path of ["/health", "/health/ready", "/health/startup", "/health/live"]) {
      assert.equal((await app.inject(path)).statusCode, 200, path);
    }
  });

  it("reports progress and refuses requests while loading", async () => {
    const lifecycle = new Lifecycle();
    const app = await buildApp({
      lifecycle,
      apiKeys: undefined,
      version: "0",
      logger: false,
      limits: {
        maxBodyBytes: 1000,
        maxChoices: 1,
        maxStreamBufferBytes: 1000,
        stallTimeoutSeconds: 5,
      },
    });
    const report = {
      phase: "Downloading",
      doneBytes: 3,
      totalBytes: 10,
      message: "3 of 10",
    } as const;
    lifecycle.publish(report);

    const startup = await app.inject("/health/startup");
    const request = await app.inject({
      method: "POST",
      url: "/v1/completions",
      payload: { prompt: "a" },
    });

    assert.deepEqual([startup.statusCode, startup.json()], [503, report]);
    assert.equal((await app.inject("/health/ready")).statusCode, 503);
    assert.equal((await app.inject("/health/live")).statusCode, 200);
    assert.equal((await app.inject("/metrics")).statusCode, 200);
    assert.equal(request.statusCode, 503);
    assert.equal(request.json().error.code, "not_ready");
    assert.match(request.json().error.message, /Downloading/);
  });

  const stalls: readonly [string, Partial<EngineStats>, number][] = [
    [
      "an old heartbeat with steps in flight",
      { stepsInFlight: 1, heartbeatMs: Date.now() - 6000 },
      503,
    ],
    ["an old heartbeat without steps", { stepsInFlight: 0, heartbeatMs: Date.now() - 6000 }, 200],
    ["a fresh heartbeat with steps in flight", { stepsInFlight: 2, heartbeatMs: Date.now() }, 200],
  ];
  for (const [name, overrides, status] of stalls) {
    it(`answers live with ${status} to ${name}`, async () => {
      const { app, engine } = await aServer();
      engine.overrides = overrides;

      assert.equal((await app.inject("/health/live")).statusCode, status);
    });
  }

  it("is neither live nor ready once it failed", async () => {
    const { app, lifecycle } = await aServer();
    lifecycle.publish({
      phase: "Failed",
      doneBytes: 0,
      totalBytes: 0,
      message: "the device is lost",
    });

    assert.equal((await app.inject("/health/live")).statusCode, 503);
    assert.equal((await app.inject("/health/ready")).json().message, "the device is lost");
  });
});
