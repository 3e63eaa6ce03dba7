import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { GenerationTable } from "./generation-table.ts";

describe("GenerationTable", () => {
  it("takes an index again only when its generation has ended", () => {
    const table = aTable();
    const first = open(table);
    const second = open(table);
    table.onEnded(first, "stop");

    assert.notEqual(first, second);
    assert.equal(open(table), first);
  });

  it("does not count the prompt of a generation that runs as waiting", () => {
    const table = aTable();
    const running = open(table, 60);
    open(table, 1);
    assert.throws(() => table.assertRoom(60, 0), { code: "QUEUE_FULL" });

    table.onAdmitted(running, 0);

    table.assertRoom(60, 0);
  });

  it("counts what lives, not what has ended", () => {
    const table = aTable();
    const indexes = Array.from({ length: 6 }, () => open(table));
    assert.throws(() => table.assertRoom(1, 0), { code: "QUEUE_FULL" });
    assert.throws(() => table.nextIndex, /all generation indexes are taken/);

    table.onToken(indexes[0] ?? 0, 5, undefined, [], "stop");

    table.assertRoom(1, 0);
  });

  it("is idle when the last generation has ended", async () => {
    const table = aTable();
    await table.idle();
    const index = open(table);
    open(table);
    let idle = false;
    const waiting = table.idle().then(() => {
      idle = true;
    });
    table.onEnded(index, "stop");
    await Promise.resolve();
    assert.equal(idle, false);

    table.endAll("error");

    await waiting;
  });

  it("tells the engine the index of what is aborted", () => {
    const table = aTable();
    const aborted: number[] = [];
    const stream = table.open(1, (index) => aborted.push(index));

    stream.abort();

    assert.deepEqual(aborted, [0]);
  });

  it("refuses events for a generation that is not there", () => {
    const table = aTable();

    assert.throws(() => table.onEnded(3, "stop"), /an event arrives for generation 3/);
  });
});

function aTable(): GenerationTable {
  return new GenerationTable({ maxRows: 4, maxWaitingRequests: 2, maxWaitingTokens: 100 });
}

function open(table: GenerationTable, promptLength = 1): number {
  const index = table.nextIndex;
  table.open(promptLength, () => {});
  return index;
}
