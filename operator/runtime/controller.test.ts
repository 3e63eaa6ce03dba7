import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ApiError, NotLeaderError } from "./api-error.ts";
import { Controller } from "./controller.ts";

describe("Controller", () => {
  it("does nothing with what is added before it starts, and then looks at everything", async () => {
    const { controller, reconciled } = aController(async () => undefined);
    controller.add("early");
    await delay(5);
    assert.deepEqual(reconciled, []);

    controller.start(["a", "b"]);
    await until(() => reconciled.length === 2);

    assert.deepEqual(reconciled, ["a", "b"]);
    await controller.stop();
  });

  it("reconciles eight keys at a time", async () => {
    let running = 0;
    let most = 0;
    const { controller, reconciled } = aController(async () => {
      running++;
      most = Math.max(most, running);
      await delay(5);
      running--;
      return undefined;
    });

    controller.start(Array.from({ length: 30 }, (_, i) => `k${i}`));
    await until(() => reconciled.length === 30 && running === 0);

    assert.equal(most, 8);
  });

  it("does it anew at once after a conflict", async () => {
    const conflict = new ApiError("PUT x", 409, '{"reason":"Conflict"}');
    let count = 0;
    const { controller, outcomes } = aController(async () => {
      count++;
      if (count < 4) throw conflict;
      return undefined;
    });
    const startMs = performance.now();

    controller.start(["a"]);
    await until(() => outcomes.length === 4);

    assert.deepEqual(outcomes, ["conflict", "conflict", "conflict", "done"]);
    assert.ok(performance.now() - startMs < 500, "conflicts are no failures that add up");
  });

  it("goes on with the others when one fails, and tries that one again", async () => {
    let failures = 0;
    const { controller, outcomes } = aController(async (key) => {
      if (key === "bad" && failures++ < 1) throw new TypeError("bug");
      return undefined;
    });

    controller.start(["bad", "good"]);
    await until(() => outcomes.length === 3);

    assert.deepEqual(outcomes, ["failed", "done", "done"]);
  });

  it("leaves a key to the next leader once it does not lead", async () => {
    const { controller, outcomes } = aController(async () => {
      throw new NotLeaderError("lost");
    });

    controller.start(["a"]);
    await until(() => outcomes.length === 1);
    await delay(150);

    assert.deepEqual(outcomes, ["failed"]);
    await controller.stop();
  });

  it("tells a reconcile that its time is over", async () => {
    const { controller, outcomes } = aController(
      (_, signal) =>
        new Promise((_resolve, reject) =>
          signal.addEventListener("abort", () => reject(signal.reason)),
        ),
      20,
    );

    controller.start(["a"]);
    await until(() => outcomes.length === 1);

    assert.deepEqual(outcomes, ["failed"]);
    await controller.stop();
  });
});

function aController(
  reconcile: (key: string, signal: AbortSignal) => Promise<number | undefined>,
  deadlineMs = 60_000,
) {
  const reconciled: string[] = [];
  const outcomes: string[] = [];
  const controller = new Controller({
    deadlineMs,
    reconcile: (key, signal) => {
      reconciled.push(key);
      return reconcile(key, signal);
    },
    onOutcome: (_, { kind }) => outcomes.push(kind),
  });
  return { controller, reconciled, outcomes };
}

async function until(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + 5_000;
  while (!condition()) {
    assert.ok(performance.now() < endMs, String(condition));
    await delay(1);
  }
}
