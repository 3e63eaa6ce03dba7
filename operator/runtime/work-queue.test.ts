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

describe("WorkQueue with several handlers", () => {
  it("never handles one key twice at a time, and loses none, in any order of adding", async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const random = randomOf(seed);
      const running = new Set<string>();
      const dirty = new Set<string>();
      let most = 0;
      const queue = new WorkQueue({
        concurrency: 3,
        firstRetryMs: 1,
        maxRetryMs: 4,
        onError: () => undefined,
        handle: async (key) => {
          assert.ok(!running.has(key), `seed ${seed}: ${key} twice at a time`);
          running.add(key);
          dirty.delete(key);
          most = Math.max(most, running.size);
          await delay(random() * 2);
          running.delete(key);
          if (random() < 0.2) throw new Error("no");
          return random() < 0.2 ? 1 : undefined;
        },
      });

      for (let i = 0; i < 60; i++) {
        const key = `k${Math.floor(random() * 6)}`;
        dirty.add(key);
        queue.add(key, random() < 0.5 ? "low" : "normal");
        if (random() < 0.3) await delay(random());
      }
      await until(() => dirty.size === 0);
      await queue.stop();

      assert.equal(running.size, 0);
      assert.ok(most > 1 && most <= 3, `seed ${seed}: ${most} at once`);
    }
  });

  it("handles keys of normal priority before those of low, and lets one of those pass after ten", async () => {
    const { queue, handled } = aQueue();
    for (let i = 0; i < 3; i++) queue.add(`low${i}`, "low");
    for (let i = 0; i < 12; i++) queue.add(`n${i}`);
    await until(() => handled.length === 15);

    assert.deepEqual(
      handled.slice(0, 10),
      Array.from(Array(10), (_, i) => `n${i}`),
    );
    assert.deepEqual(handled.slice(10), ["low0", "n10", "n11", "low1", "low2"]);
  });

  it("moves a key up that is added again with normal priority", async () => {
    const { queue, handled } = aQueue();
    queue.add("a", "low");
    queue.add("b", "low");
    queue.add("b");
    await until(() => handled.length === 2);

    assert.deepEqual(handled, ["b", "a"]);
  });

  it("keeps the pause of a key that failed before a look of low priority, not before a change", async () => {
    let count = 0;
    const queue = new WorkQueue({
      firstRetryMs: 100_000,
      maxRetryMs: 100_000,
      onError: () => undefined,
      handle: async () => {
        count++;
        throw new Error("no");
      },
    });
    queue.add("a");
    await until(() => count === 1);
    await settled();

    queue.add("a", "low");
    await delay(10);
    assert.equal(count, 1);
    queue.add("a");
    await until(() => count === 2);
    await queue.stop();
  });

  it("adds a key at the earliest of the times that were asked for", async () => {
    const { queue, handled } = aQueue();
    const startMs = performance.now();
    queue.addAfter("a", 20);
    queue.addAfter("a", 100_000);
    queue.addAfter("b", 100_000);
    queue.addAfter("b", 20);
    await until(() => handled.length === 2);

    assert.ok(performance.now() - startMs >= 18);
    await queue.stop();
  });
});

function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

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
