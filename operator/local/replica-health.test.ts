import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { StartupReport } from "../../engine/contract.ts";
import type { ProbeResult } from "./probe.ts";
import { ReplicaHealth } from "./replica-health.ts";

const deadlines = { livenessDeadlineMs: 30_000, stallDeadlineMs: 300_000 };

describe("ReplicaHealth", () => {
  it("gives a load that goes on all the time that it needs", async () => {
    const engine = anEngine({ startup: loading(0) });
    const health = new ReplicaHealth(engine, deadlines);

    for (let minute = 0; minute < 600; minute++) {
      engine.answers.startup = loading(minute);
      await health.look(minute * 60_000);
    }

    assert.equal(health.failure, undefined);
    assert.equal(health.ready, false);
  });

  it("gives one that stands still five minutes, from its last progress on", async () => {
    const engine = anEngine({ startup: loading(1) });
    const health = new ReplicaHealth(engine, deadlines);
    await health.look(0);
    engine.answers.startup = loading(2);
    await health.look(200_000);

    await health.look(499_999);
    assert.equal(health.failure, undefined);
    await health.look(500_000);

    assert.equal(health.failure, "made no progress for 300 s (Loading)");
  });

  it("gives one that never answers five minutes too", async () => {
    const health = new ReplicaHealth(anEngine({}), deadlines);
    await health.look(1_000);

    await health.look(301_000);

    assert.equal(health.failure, "made no progress for 300 s (before its first report)");
  });

  it("believes one unanswered probe no more than two, and a refusal at once", async () => {
    const engine = anEngine({ startup: serving, ready: "yes", live: "yes" });
    const health = new ReplicaHealth(engine, deadlines);
    await health.look(0);
    assert.equal(health.ready, true);

    const seen: boolean[] = [];
    for (const ready of [
      "silent",
      "silent",
      "yes",
      "silent",
      "silent",
      "silent",
      "yes",
      "no",
    ] as const) {
      engine.answers.ready = ready;
      await health.look(1);
      seen.push(health.ready);
    }

    assert.deepEqual(seen, [true, true, true, true, true, false, true, false]);
  });

  it("fails an engine that is not live for half a minute, counted from when it last was", async () => {
    const engine = anEngine({ startup: serving, ready: "yes", live: "yes" });
    const health = new ReplicaHealth(engine, deadlines);
    await health.look(0);
    await health.look(100_000);
    engine.answers.live = "no";

    await health.look(129_999);
    assert.equal(health.failure, undefined);
    engine.answers.live = "silent";
    await health.look(130_000);

    assert.equal(health.failure, "was not live for 30 s");
  });

  it("says when something has changed that others should know of", async () => {
    const engine = anEngine({ startup: loading(1) });
    const health = new ReplicaHealth(engine, deadlines);

    const changes = [await health.look(0), await health.look(1)];
    engine.answers.startup = loading(2);
    changes.push(await health.look(2), await health.look(3));

    assert.deepEqual(changes, [true, false, true, false]);
  });
});

const serving: StartupReport = { phase: "Serving", doneBytes: 0, totalBytes: 0, message: "" };

function loading(doneBytes: number): StartupReport {
  return { phase: "Loading", doneBytes, totalBytes: 1_000, message: "" };
}

interface Answers {
  startup?: StartupReport;
  ready?: ProbeResult;
  live?: ProbeResult;
}

function anEngine(answers: Answers) {
  return {
    answers,
    startup: async () => answers.startup,
    ready: async () => answers.ready ?? "silent",
    live: async () => answers.live ?? "silent",
  };
}
