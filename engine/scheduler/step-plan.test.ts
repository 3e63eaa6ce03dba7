import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ampleLimits, aRequestInit, promptOf } from "../../e2e/scheduler-run.ts";
import type { Device } from "../device.ts";
import { Scheduler } from "./scheduler.ts";
import { submitPlan } from "./step-plan.ts";

describe("submitPlan", () => {
  it("opens a row with the known tokens and its whole table, then tells of each block it gains", () => {
    const scheduler = new Scheduler(ampleLimits);
    scheduler.enqueue(aRequestInit({ promptTokenIds: promptOf(8), maxTokens: 3 }));
    const calls: unknown[] = [];

    for (const _ of [1, 2]) {
      const plan = scheduler.schedule();
      assert.ok(plan);
      submitPlan(plan, scheduler.kv.rows, aDevice(calls));
    }

    assert.deepEqual(calls, [
      ["openRow", 0, [...promptOf(8)], 8],
      ["setBlocks", 0, 0, [0, 1]],
      ["submit"],
      ["setBlocks", 0, 2, [2]],
      ["submit"],
    ]);
  });
});

function aDevice(calls: unknown[]): Pick<Device, "openRow" | "setBlocks" | "submit"> {
  return {
    openRow: (row, _sampling, tokenIds, promptLength) =>
      calls.push(["openRow", row, [...tokenIds], promptLength]),
    setBlocks: (row, firstIndex, blocks) => calls.push(["setBlocks", row, firstIndex, [...blocks]]),
    submit: () => calls.push(["submit"]),
  };
}
