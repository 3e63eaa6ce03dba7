import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { WorkQueue } from "./work-queue.ts";

describe("WorkQueue", () => {
  it("handles a key once for all the times it was added while it waited", async () => {
    const { queue, handled } = aQueue();

    for (let i = 0; i < 100; i++) queue.add("a");
    queue.add("b");
    await settled();

    assert.deepEqual(handled, ["a", "b"]);
  });

  it("handles a key once more when it is added while it is handled, and never twice at a time", async () => {
    let running = 0;
    let mostAtOnce = 0;
    const { queue, handled } = aQueue(async () => {
      running++;
      mostAtOnce = Math.max(mostAtOnce, running);
      if (handled.length < 3) {
        queue.add("a");
        queue.add("b");
      }
      await delay(5);
      running--;
      return undefined;
    });

    queue.add("a");
    await until(() => handled.length === 4);

    assert.equal(mostAtOnce, 1);
    assert.deepEqual(handled, ["a", "a", "b", "a"]);
  });

  it("looks again after the time that the handler asked for", async () => {
    const { queue, handled } = aQueue(async () => (handled.length < 3 ? 10 : undefined));

    queue.add("a");
    await until(() => handled.length === 3);
    await delay(30);

    assert.equal(handled.length, 3);
  });

  it("tries a key again after a failure, later each time, and goes on with the others", async () => {
    const times: number[] = [];
    const errors: string[] = [];
    const queue = new WorkQueue({
      firstRetryMs: 10,
      maxRetryMs: 40,
      onError: (key, error) => errors.push(`${key}: ${(error as Error).message}`),
      handle: async (key) => {
        if (key === "good") return undefined;
        times.push(Date.now());
        if (times.length <= 4) throw new Error("no");
        return undefined;
      },
    });

    queue.add("bad");
    queue.add("good");
    await until(() => times.length === 5);

    assert.deepEqual(errors, Array(4).fill("bad: no"));
    const pauses = times.slice(1).map((time, i) => time - (times[i] ?? 0));
    assert.ok((pauses[2] ?? 0) >= 38 && (pauses[3] ?? 0) >= 38, pauses.join());
    assert.ok((pauses[3] ?? 0) < 75, `capped: ${pauses.join()}`);
    await queue.stop();
  });

  it("begins with the first pause again after a success", async () => {
    const outcomes = [false, false, false, true, false, true];
    const times: number[] = [];
    const queue = new WorkQueue({
      firstRetryMs: 20,
      maxRetryMs: 10_000,
      onError: () => undefined,
      handle: async () => {
        times.push(Date.now());
        if (outcomes[times.length - 1] === false) throw new Error("no");
        return times.length === 4 ? 1 : undefined;
      },
    });

    queue.add("a");
    await until(() => times.length === 6);

    // Without forgetting it would be the fourth pause, of 160 ms.
    assert.ok((times[5] ?? 0) - (times[4] ?? 0) < 120, times.join());
    await queue.stop();
  });

  it("awaits what is being handled when it stops, and handles nothing afterwards", async () => {
    let finished = false;
    const { queue, handled } = aQueue(async () => {
      await delay(20);
      finished = true;
      return 1;
    });
    queue.add("a");
    queue.add("b");
    await settled();

    await queue.stop();
    assert.equal(finished, true);
    queue.add("c");
    await delay(30);

    assert.deepEqual(handled, ["a"]);
  });
});

function aQueue(handle: () => Promise<number | undefined> = async () => undefined) {
  const handled: string[] = [];
  const queue = new WorkQueue({
    handle: (key) => {
      handled.push(key);
      return handle();
    },
    onError: (_, error) => {
      throw error;
    },
  });
  return { queue, handled };
}

const settled = () => delay(1);

async function until(condition: () => boolean): Promise<void> {
  const endMs = Date.now() + 5_000;
  while (!condition()) {
    assert.ok(Date.now() < endMs, String(condition));
    await delay(1);
  }
}
