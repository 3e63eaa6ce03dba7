import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";

import { temporaryFolder } from "../testing.ts";
import { acquireLock, type FileLock, type LockWaiting } from "./file-lock.ts";
import { until } from "./testing.ts";

const never = async () => undefined;

describe("acquireLock", () => {
  it("has one owner at a time, in one process", async () => {
    using folder = temporaryFolder();
    let ownerCount = 0;
    let turns = 0;

    await Promise.all(
      Array.from({ length: 5 }, async () => {
        const lock = await own(join(folder.path, "model"));
        assert.equal(++ownerCount, 1);
        await new Promise((resolve) => setTimeout(resolve, 5));
        ownerCount--;
        turns++;
        await lock.release();
      }),
    );

    assert.equal(turns, 5);
    assert.deepEqual(readdirSync(folder.path), []);
  });

  it("has one owner at a time among processes, some of which are killed", async () => {
    using folder = temporaryFolder();
    const contenders = Array.from({ length: 6 }, (_, i) => aContender(folder.path, i % 3 === 0));

    const logs = await Promise.all(contenders.map(logOf));

    const turns = logs.flat().toSorted((a, b) => a.from - b.from);
    assert.equal(turns.length, 6);
    for (const [i, turn] of turns.entries()) {
      const next = turns[i + 1];
      assert.ok(next === undefined || turn.to <= next.from, `turn ${i} overlaps the next`);
    }
  });

  it("does not mix up locks whose names begin alike", async () => {
    using folder = temporaryFolder();
    const one = await own(join(folder.path, "model"));
    const other = await own(join(folder.path, "model-2"));
    await Promise.all([one.release(), other.release()]);
  });

  it("ends the wait when what it was for is there", async () => {
    using folder = temporaryFolder();
    const lock = await own(join(folder.path, "model"));
    let asked = 0;

    const outcome = await acquireLock(join(folder.path, "model"), waiting(), async () =>
      ++asked === 3 ? "there" : undefined,
    );

    assert.deepEqual(outcome, { settled: "there" });
    await lock.release();
  });

  it("gives the lock back when it turns out not to be needed, or when that cannot be found out", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "model");

    assert.deepEqual(await acquireLock(path, waiting(), async () => 1), { settled: 1 });
    await assert.rejects(
      acquireLock(path, waiting(), () => Promise.reject(new Error("no"))),
      /no/,
    );

    assert.deepEqual(readdirSync(folder.path), []);
  });

  it("tells waiters the owner's process and note", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "model");
    const lock = await own(path);
    lock.note = "half of it";
    const notes: [number, string][] = [];

    await acquireLock(
      path,
      waiting({ onWait: (pid, note) => notes.push([pid, note]) }),
      async () => (notes.at(-1)?.[1] === "half of it" ? true : undefined),
    );

    assert.equal(notes[0]?.[0], process.pid);
    assert.equal(notes[0]?.[1], "");
    await lock.release();
  });

  it("stops waiting when it is told to", async () => {
    using folder = temporaryFolder();
    const lock = await own(join(folder.path, "model"));
    const controller = new AbortController();
    const options = waiting({ signal: controller.signal, onWait: () => controller.abort() });

    await assert.rejects(acquireLock(join(folder.path, "model"), options, never), {
      name: "AbortError",
    });

    await lock.release();
    assert.deepEqual(readdirSync(folder.path), []);
  });

  it("takes a process number that was given to a later process for a dead owner", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "model");
    const lock = await own(path);
    const [mine = ""] = readdirSync(folder.path);
    await lock.release();
    const [machine, pid, startTime, unique] = mine.split("-");
    const earlier = [machine, pid, Number(startTime) - 1, unique].join("-");
    writeFileSync(join(folder.path, earlier), "");

    const next = await own(path);

    assert.equal(readdirSync(folder.path).includes(earlier), false);
    await next.release();
  });

  it("trusts a lock of another machine as long as its file changes", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "model");
    const foreign = join(folder.path, "model.lock.abcdef012345-1-1-aa");
    writeFileSync(foreign, "note");
    let beats = 0;
    let lastBeatAt = 0;
    const options = waiting({
      staleMs: 1_200,
      onWait: () => {
        if (beats === 4) return;
        utimesSync(foreign, ++beats, beats);
        lastBeatAt = performance.now();
      },
    });

    const lock = await acquireLock(path, options, never);

    assert.equal(beats, 4, "it waited while the file changed");
    assert.ok(performance.now() - lastBeatAt > 1_200, "it waited for the file to be stale");
    assert.ok(!("settled" in lock));
    await lock.release();
    assert.deepEqual(readdirSync(folder.path), []);
  });

  it("tells an owner whose file was taken away", async () => {
    using folder = temporaryFolder();
    const lock = await own(join(folder.path, "model"));

    for (const name of readdirSync(folder.path)) rmSync(join(folder.path, name));

    await until(() => lock.signal.aborted, "the loss to be noticed");
    await lock.release();
    assert.deepEqual(readdirSync(folder.path), []);
  });
});

function waiting(more: Partial<LockWaiting> = {}): LockWaiting {
  return { staleMs: 60_000, onWait: () => undefined, ...more };
}

async function own(path: string): Promise<FileLock> {
  const lock = await acquireLock(path, waiting(), never);
  assert.ok(!("settled" in lock));
  return lock;
}

/** A process that owns the lock for 50 ms, says from when to when, and may then die in possession. */
function aContender(folder: string, dies: boolean): ChildProcess {
  const module = new URL("file-lock.ts", import.meta.url).href;
  const script = `
    import { writeSync } from "node:fs";
    import { acquireLock } from ${JSON.stringify(module)};
    const waiting = { staleMs: 60000, onWait() {} };
    const lock = await acquireLock(${JSON.stringify(join(folder, "model"))}, waiting, async () => undefined);
    const from = Date.now();
    await new Promise((resolve) => setTimeout(resolve, 50));
    writeSync(1, JSON.stringify({ from, to: Date.now() }) + "\\n");
    if (${dies}) process.kill(process.pid, "SIGKILL");
    await lock.release();
  `;
  return spawn(process.execPath, ["--input-type=module", "--eval", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
}

async function logOf(child: ChildProcess): Promise<{ from: number; to: number }[]> {
  let output = "";
  child.stdout?.setEncoding("utf8").on("data", (text) => {
    output += text;
  });
  await once(child, "close");
  return output
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}
