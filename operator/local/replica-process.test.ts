import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { defaultReplicaTiming, ReplicaProcess, type ReplicaTiming } from "./replica-process.ts";
import { defaultRestartBackoff, restartDelayMs } from "./restart-backoff.ts";

const fakeEngine = join(import.meta.dirname, "fake-engine.ts");
let folder: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "quire-replica-"));
});
after(() => rm(folder, { recursive: true }));

describe("restartDelayMs", () => {
  it("doubles from one second to five minutes", () => {
    const delays = [0, 1, 2, 8, 9, 2_000].map((n) => restartDelayMs(defaultRestartBackoff, n));

    assert.deepEqual(delays, [1_000, 2_000, 4_000, 256_000, 300_000, 300_000]);
  });
});

describe("ReplicaProcess", () => {
  it("reports the load's progress and becomes ready when it is done", async (t) => {
    const { replica, seen } = start(t, "load=400");

    await until(() => replica.ready);

    assert.ok(
      seen.some((report) => report.startsWith("Loading")),
      seen.join(),
    );
    assert.equal(replica.startup?.phase, "Serving");
    assert.equal(replica.restartCount, 0);
  });

  it("takes the replica out of the endpoints at once when its process is killed, then restarts it", async (t) => {
    const { replica } = start(t, "");
    await until(() => replica.ready);
    const pid = replica.pid ?? assert.fail("no process");
    const port = replica.port;

    process.kill(pid, "SIGKILL");
    await until(() => replica.restartAt !== undefined);

    assert.equal(replica.ready, false);
    assert.equal(replica.port, undefined);
    assert.match(replica.termination?.message ?? "", /ended by SIGKILL/);
    await until(() => replica.ready);
    assert.equal(replica.restartCount, 1);
    assert.notEqual(replica.pid, pid);
    assert.notEqual(replica.port, undefined);
    assert.notEqual(replica.port, port);
  });

  it("keeps the engine's own error, and pauses longer before each restart", async (t) => {
    const pauses = new Map<number, number>();
    const { replica } = start(t, "crash", {}, ({ restartAt, restartCount }) => {
      if (restartAt === undefined || pauses.has(restartCount)) return;
      pauses.set(restartCount, restartAt.getTime() - Date.now());
    });

    await until(() => replica.restartCount >= 3);

    assert.deepEqual(replica.termination, {
      code: "MODEL_UNSUPPORTED",
      message: "no such model",
      remedy: "Name another.",
    });
    const [first = 0, second = 0, third = 0] = pauses.values();
    assert.ok(Math.abs(first - 50) < 20, String(first));
    assert.ok(Math.abs(second - 100) < 20, String(second));
    assert.ok(Math.abs(third - 200) < 20, String(third));
  });

  it("tells the last line of the log when the engine left no error", async (t) => {
    const { replica } = start(t, "die");

    await until(() => replica.termination !== undefined);

    assert.equal(replica.termination?.code, "ENGINE_ENDED");
    assert.match(replica.termination?.message ?? "", /exit code 3.*the reason is here$/);
    assert.match(replica.termination?.remedy ?? "", /die\.log/);
    assert.match(await readFile(join(folder, "die.log"), "utf8"), /first line/);
  });

  it("restarts an engine that stops being live, and says why", async (t) => {
    const { replica } = start(t, "wedge=300", { livenessDeadlineMs: 100 });

    await until(() => replica.restartCount >= 1);

    assert.equal(replica.termination?.message, "it was ended because it was not live for 0.1 s");
  });

  it("restarts an engine whose load stands still", async (t) => {
    const { replica } = start(t, "stall", { stallDeadlineMs: 1_500 });

    await until(() => replica.restartCount >= 1);

    assert.match(replica.termination?.message ?? "", /made no progress for 1.5 s \(Loading\)/);
  });

  it("leaves the endpoints before the engine is told, and lets it finish what it is answering", async (t) => {
    const { replica } = start(t, "token=50");
    await until(() => replica.ready);
    const answer = ask(replica, { max_tokens: 8, stream: true });
    await answer.began;

    replica.stop(10_000);

    assert.equal(replica.ready, false);
    assert.match(await answer.text, /"7 ".*\n\ndata: \[DONE\]/);
    await replica.finished;
    assert.equal(replica.pid, undefined);
    assert.equal(replica.restartCount, 0);
  });

  it("kills an engine that has not ended when the drain's time is over", async (t) => {
    const { replica } = start(t, "stubborn");
    await until(() => replica.ready);
    const pid = replica.pid ?? assert.fail("no process");
    const beganMs = Date.now();

    replica.stop(300);
    await replica.finished;

    assert.ok(Date.now() - beganMs >= 290);
    assert.equal(isRunning(pid), false);
  });

  it("ends a drain at once while the engine waits to be restarted", async (t) => {
    const { replica } = start(t, "crash", {
      backoff: { firstMs: 60_000, maxMs: 60_000, resetAfterMs: 60_000 },
    });
    await until(() => replica.restartAt !== undefined);

    replica.stop(60_000);
    await replica.finished;

    assert.equal(replica.restartCount, 0);
    assert.equal(replica.pid, undefined);
  });

  it("takes along what the engine has started", async (t) => {
    const { replica } = start(t, "child");
    await until(() => replica.ready);
    const pid = replica.pid ?? assert.fail("no process");
    const [childPid] = (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).split(" ");

    replica.stop(10_000);
    await replica.finished;

    await until(() => !isRunning(Number(childPid)));
  });

  it("starts the series of pauses anew after an engine has run for long enough", async (t) => {
    const pauses = new Map<number, number>();
    const backoff = { firstMs: 100, maxMs: 60_000, resetAfterMs: 0 };
    const { replica } = start(t, "die", { backoff }, ({ restartAt, restartCount }) => {
      if (restartAt === undefined || pauses.has(restartCount)) return;
      pauses.set(restartCount, restartAt.getTime() - Date.now());
    });

    await until(() => pauses.size === 3, 20_000);

    for (const pauseMs of pauses.values()) assert.ok(pauseMs <= 100, [...pauses.values()].join());
    assert.ok(replica.restartCount >= 2);
  });
});

function start(
  t: TestContext,
  behaviour: string,
  timing: Partial<ReplicaTiming> = {},
  onChange: (replica: ReplicaProcess) => void = () => {},
): { replica: ReplicaProcess; seen: string[] } {
  const seen: string[] = [];
  const name = behaviour === "" ? "plain" : behaviour;
  let created: ReplicaProcess | undefined;
  const replica = new ReplicaProcess({
    name,
    command: {
      program: process.execPath,
      args: [fakeEngine],
      env: { PATH: "/usr/bin:/bin", QUIRE_MODEL: `/models/${behaviour}` },
    },
    logFile: join(folder, `${name}.log`),
    terminationFile: join(folder, `${name}.termination`),
    timing: {
      ...defaultReplicaTiming,
      backoff: { firstMs: 50, maxMs: 1_000, resetAfterMs: 60_000 },
      probeIntervalMs: 20,
      ...timing,
    },
    onChange: () => {
      if (created === undefined) return;
      if (created.startup !== undefined) seen.push(created.startup.phase);
      onChange(created);
    },
  });
  created = replica;
  t.after(async () => {
    replica.kill();
    await replica.finished;
  });
  return { replica, seen };
}

function ask(
  replica: ReplicaProcess,
  body: object,
): { began: Promise<void>; text: Promise<string> } {
  const response = fetch(`http://127.0.0.1:${replica.port}/v1/chat/completions`, {
    method: "POST",
    body: JSON.stringify(body),
  });
  return {
    began: response.then(() => undefined),
    text: response.then((answer) => answer.text()),
  };
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, "ESRCH");
    return false;
  }
}

async function until(condition: () => boolean, deadlineMs = 10_000): Promise<void> {
  const endMs = Date.now() + deadlineMs;
  while (!condition()) {
    assert.ok(Date.now() < endMs, `not within ${deadlineMs} ms: ${condition}`);
    await delay(5);
  }
}
