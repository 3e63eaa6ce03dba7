import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { FastifyReply } from "fastify";
import { EngineMetrics } from "../metrics/metrics.ts";
import { admit } from "./context.ts";
import { Lifecycle } from "./lifecycle.ts";
import { StreamFlusher } from "./sse.ts";
import { aServer } from "./test-server.ts";

describe("Lifecycle", () => {
  it("is drained once the last request is done, not the first", async () => {
    const lifecycle = new Lifecycle();
    const first = lifecycle.track(() => {});
    const second = lifecycle.track(() => {});

    const drained = lifecycle.drained(30);
    first();

    assert.equal(await drained, false);
    second();
    assert.equal(await lifecycle.drained(0), true);
  });

  it("counts requests apart that share their way to abort", () => {
    const lifecycle = new Lifecycle();
    const abort = () => {};
    const first = lifecycle.track(abort);
    lifecycle.track(abort);

    first();

    assert.equal(lifecycle.inFlightCount, 1);
  });

  it("is empty at once when nothing is in flight", async () => {
    assert.equal(await new Lifecycle().drained(0), true);
  });
});

describe("admit", () => {
  it("does not count a request whose client left before it was handled", async () => {
    const { lifecycle } = await aServer();
    const context = {
      lifecycle,
      metrics: new EngineMetrics({
        stats: () => undefined,
        draining: () => false,
        modelName: () => undefined,
      }),
      flusher: new StreamFlusher(),
      limits: { maxBodyBytes: 1, maxChoices: 1, maxStreamBufferBytes: 1, stallTimeoutSeconds: 1 },
    };
    const reply = { raw: { destroyed: true, once: () => {} } } as unknown as FastifyReply;

    assert.throws(() => admit(context, reply), { code: "ABORTED" });
    assert.equal(lifecycle.inFlightCount, 0);
  });
});
