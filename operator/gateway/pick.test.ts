import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Candidate, pickReplica } from "./pick.ts";

describe("pickReplica", () => {
  it("finds nobody where there is nobody", () => {
    assert.equal(pickReplica([], "key", 0), undefined);
    assert.equal(pickReplica([], undefined, 0), undefined);
  });

  it("takes the least loaded without a key, and idle ones in turn", () => {
    const fleet = loads({ a: 2, b: 1, c: 1 });

    const picks = [0, 1, 2, 3].map((turn) => pickReplica(fleet, undefined, turn)?.name);

    assert.deepEqual(picks, ["b", "c", "b", "c"]);
  });

  it("keeps a key on one replica while there is room", () => {
    const names = new Set(
      [0, 1, 2, 3].map((turn) => pickReplica(loads({ a: 1, b: 1, c: 1 }), "key", turn)?.name),
    );

    assert.equal(names.size, 1);
  });

  it("spreads keys evenly", () => {
    const counts = new Map<string, number>();
    for (let i = 0; i < 3_000; i++) {
      const name = pickReplica(loads({ a: 0, b: 0, c: 0 }), `prompt number ${i}`, i)?.name ?? "";
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }

    for (const [name, count] of counts) {
      assert.ok(count > 900 && count < 1_100, `${name}: ${count}`);
    }
    assert.equal(counts.size, 3);
  });

  it("moves only the keys of a replica that leaves", () => {
    for (let i = 0; i < 200; i++) {
      const before = pickReplica(loads({ a: 0, b: 0, c: 0 }), `key ${i}`, 0)?.name;
      const after = pickReplica(loads({ a: 0, b: 0 }), `key ${i}`, 0)?.name;
      if (before !== "c") assert.equal(after, before, `key ${i}`);
    }
  });

  it("passes a key on when its replica has a quarter more than the mean", () => {
    const home = pickReplica(loads({ a: 0, b: 0 }), "hot", 0)?.name ?? "";
    const other = home === "a" ? "b" : "a";

    // The mean with this request is 4, so 5 is the bound.
    assert.equal(pickReplica(loads({ [home]: 4, [other]: 3 }), "hot", 0)?.name, home);
    assert.equal(pickReplica(loads({ [home]: 5, [other]: 2 }), "hot", 0)?.name, other);
  });

  it("always finds one with room, however the load lies", () => {
    for (let a = 0; a < 12; a++) {
      for (let b = 0; b < 12; b++) {
        const picked = pickReplica(loads({ a, b, c: 3 }), `key ${a} ${b}`, 0);
        assert.notEqual(picked, undefined, `${a} ${b}`);
      }
    }
  });
});

function loads(inFlight: Record<string, number>): Candidate[] {
  return Object.entries(inFlight).map(([name, count]) => ({
    replica: { name, host: "127.0.0.1", port: 1 },
    inFlight: count,
  }));
}
