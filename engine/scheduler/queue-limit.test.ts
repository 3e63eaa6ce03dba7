import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { QueueLimit } from "./queue-limit.ts";

describe("QueueLimit", () => {
  it("lets as many live as there are rows and places in the queue", () => {
    const limit = aLimit({ maxRows: 2, maxWaitingRequests: 1 });
    for (const index of [0, 1, 2]) {
      limit.assertRoom(1, 0);
      limit.add(index, 1);
    }

    assert.throws(() => limit.assertRoom(1, 0), { code: "QUEUE_FULL" });
    limit.end(1);
    limit.assertRoom(1, 0);
  });

  it("takes the engine's word for how many could not start", () => {
    const limit = aLimit({ maxRows: 8, maxWaitingRequests: 2 });

    limit.assertRoom(1, 1);
    assert.throws(() => limit.assertRoom(1, 2), { code: "QUEUE_FULL" });
  });

  it("lets requests run where none may wait", () => {
    const limit = aLimit({ maxRows: 1, maxWaitingRequests: 0 });

    limit.assertRoom(1, 0);
    limit.add(0, 1);
    assert.throws(() => limit.assertRoom(1, 0), { code: "QUEUE_FULL" });
  });

  it("bounds the prompt tokens of those that have not started", () => {
    const limit = aLimit({ maxWaitingTokens: 100 });
    limit.add(0, 60);

    assert.throws(() => limit.assertRoom(41, 0), /101 prompt tokens would wait to run, of 100/);
    limit.assertRoom(40, 0);
    limit.start(0);
    limit.add(1, 1);
    limit.assertRoom(99, 0);
  });

  it("lets one long prompt in when nothing else waits", () => {
    aLimit({ maxWaitingTokens: 100 }).assertRoom(500, 0);
  });

  it("forgets the tokens of a request that ends without having started", () => {
    const limit = aLimit({ maxWaitingTokens: 100 });
    limit.add(0, 90);
    limit.end(0);
    limit.add(1, 1);

    limit.assertRoom(99, 0);
  });

  it("counts a request that started and ended once", () => {
    const limit = aLimit({ maxWaitingTokens: 100 });
    limit.add(0, 90);
    limit.start(0);
    limit.end(0);
    limit.add(1, 50);

    assert.throws(() => limit.assertRoom(51, 0), { code: "QUEUE_FULL" });
  });
});

function aLimit(
  limits: { maxRows?: number; maxWaitingRequests?: number; maxWaitingTokens?: number } = {},
): QueueLimit {
  return new QueueLimit({ maxRows: 4, maxWaitingRequests: 4, maxWaitingTokens: 1000, ...limits });
}
