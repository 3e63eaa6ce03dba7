import type { Device, StepBatch } from "../device.ts";
import type { Request } from "./request.ts";
import type { RowTable } from "./row-table.ts";

/** A step, and what the device must be told before it. Valid until the next `schedule`. */
export interface StepPlan {
  readonly batch: StepBatch;
  /** Requests that were given a row; their whole block table is new to the device. */
  readonly opened: readonly Request[];
  /** `[grownCount]` rows whose table grew by its last block. */
  readonly grownRows: Int32Array;
  readonly grownCount: number;
}

/** Tells the device of every row that changed, and submits the step. */
export function submitPlan(
  plan: StepPlan,
  rows: RowTable,
  device: Pick<Device, "openRow" | "setBlocks" | "submit">,
): void {
  for (const { row, sampling, tokens, tokenCount, promptLength } of plan.opened) {
    device.openRow(row, sampling, tokens.subarray(0, tokenCount), promptLength);
    device.setBlocks(row, 0, rows.blocksFrom(row, 0));
  }
  for (let i = 0; i < plan.grownCount; i++) {
    const row = plan.grownRows[i] as number;
    const last = rows.blockCount(row) - 1;
    device.setBlocks(row, last, rows.blocksFrom(row, last));
  }
  device.submit(plan.batch);
}
