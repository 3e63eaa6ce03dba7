import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { NoAnswerError } from "./api-error.ts";
import { Election } from "./election.ts";
import { FakeApiServer } from "./fake-api-server.ts";
import { Fence } from "./fence.ts";
import { Elector } from "./leader.ts";
import { type Call, Transport } from "./transport.ts";

const path = "/apis/coordination.k8s.io/v1/namespaces/quire/leases/absent";

describe("Elector", () => {
  let server: FakeApiServer;
  let nowMs: number;
  beforeEach(async () => {
    server = await new FakeApiServer().listen();
    nowMs = 1_000_000;
  });
  afterEach(() => server.close());

  it("leads where there is no lease, and a second one follows", async () => {
    const [a, b] = [anElector("a"), anElector("b")];

    assert.equal(await a.elector.tick(), "leading");
    assert.equal(await b.elector.tick(), "following");
    assert.deepEqual([a.fence.isOpen, b.fence.isOpen], [true, false]);
  });

  it("takes over a lease that has not changed for 15 s, and counts the change", async () => {
    const [a, b] = [anElector("a"), anElector("b")];
    await a.elector.tick();
    await b.elector.tick();

    nowMs += 14_999;
    assert.equal(await b.elector.tick(), "following");
    nowMs += 1;
    assert.equal(await b.elector.tick(), "leading");

    const spec = server.get(path)?.["spec"] as Record<string, unknown>;
    assert.deepEqual([spec["holderIdentity"], spec["leaseTransitions"]], ["b", 1]);
  });

  it("stops writing 10 s after the last renewal was sent, whatever its threads do", async () => {
    const { elector, fence } = anElector("a");
    await elector.tick();

    nowMs += 9_999;
    assert.equal(fence.isOpen, true);
    nowMs += 1;
    assert.equal(fence.isOpen, false);
  });

  it("has lost for good once its time passed without a renewal", async () => {
    const { elector } = anElector("a");
    await elector.tick();
    nowMs += 10_000;

    assert.equal(await elector.tick(), "lost");
    assert.equal(await elector.tick(), "lost");
    assert.equal(server.requests.filter(({ method }) => method !== "GET").length, 1);
  });

  it("goes on leading through attempts that fail, until its time has passed", async () => {
    const { elector, fence, fail } = anElector("a");
    await elector.tick();
    fail.before = true;
    nowMs += 4_000;
    await assert.rejects(elector.tick());
    fail.before = false;
    nowMs += 4_000;

    assert.equal(await elector.tick(), "leading");
    nowMs += 9_000;
    assert.equal(fence.isOpen, true);
  });

  it("has lost when another one holds the lease", async () => {
    const { elector, fence } = anElector("a");
    await elector.tick();
    const lease = server.get(path);
    assert.ok(lease !== undefined);
    const spec = { ...(lease["spec"] as object), holderIdentity: "b" };
    server.put(path.replace("/absent", ""), { ...lease, spec });

    assert.equal(await elector.tick(), "lost");
    assert.equal(fence.isOpen, false);
  });

  it("gives the lease away when it is released, and only its own", async () => {
    const [a, b] = [anElector("a"), anElector("b")];
    await a.elector.tick();
    await b.elector.tick();
    await b.elector.release();
    assert.equal(await a.elector.tick(), "leading");

    await a.elector.release();

    assert.equal(a.fence.isOpen, false);
    assert.equal(await anElector("c").elector.tick(), "leading");
  });

  it("never lets two lead at once, whatever is delayed, lost or stopped", async () => {
    let takeovers = 0;
    for (let seed = 1; seed <= 100; seed++) {
      const random = randomOf(seed);
      server.remove(path);
      const electors = ["a", "b", "c"].map((name) => anElector(`${name}${seed}`));
      const stoppedUntil = electors.map(() => 0);
      const leaders = new Set<number>();
      for (let step = 0; step < 60; step++) {
        nowMs += random() * 3_000;
        const i = Math.floor(random() * electors.length);
        const one = electors[i];
        if (one === undefined || (stoppedUntil[i] ?? 0) > nowMs) continue;
        if (random() < 0.05) stoppedUntil[i] = nowMs + random() * 40_000;
        one.fail.before = random() < 0.15;
        one.fail.after = random() < 0.15;
        await one.elector.tick().catch(() => undefined);
        const open = electors.flatMap(({ fence }, index) => (fence.isOpen ? [index] : []));
        assert.ok(open.length <= 1, `seed ${seed}, step ${step}: ${open.join()} lead`);
        for (const index of open) leaders.add(index);
      }
      takeovers += leaders.size - 1;
    }
    assert.ok(takeovers > 20, `only ${takeovers} takeovers were tried`);
  });

  function anElector(identity: string) {
    const transport = new Transport({ credentials: server });
    const fence = new Fence(undefined, () => nowMs);
    const fail = { before: false, after: false };
    const elector = new Elector({
      transport: {
        async call<T>(call: Call): Promise<T> {
          if (fail.before) throw new NoAnswerError("lost on the way");
          const answer = await transport.call<T>(call);
          if (fail.after) throw new NoAnswerError("the answer was lost");
          return answer;
        },
      },
      namespace: "quire",
      leaseName: "absent",
      identity,
      fence,
      nowMs: () => nowMs,
    });
    return { elector, fence, fail };
  }
});

describe("Election", () => {
  it("leads by a thread of its own, and lets go", async () => {
    const server = await new FakeApiServer().listen();
    const election = new Election({
      credentials: server,
      namespace: "quire",
      leaseName: "absent",
      identity: "a",
      onError: (message) => assert.fail(message),
    });
    assert.throws(() => election.assertLeading(), { name: "NotLeaderError" });

    await election.start();
    await election.leading;
    election.assertLeading();
    await election.release();
    await election.lost;

    assert.throws(() => election.assertLeading(), { name: "NotLeaderError" });
    const spec = server.get(path)?.["spec"] as Record<string, unknown>;
    assert.equal(spec["holderIdentity"], "");
    await server.close();
  });

  it("says that it lost when another one took the lease", async () => {
    const server = await new FakeApiServer().listen();
    const election = new Election({
      credentials: server,
      namespace: "quire",
      leaseName: "absent",
      identity: "a",
      onError: () => undefined,
    });
    await election.start();
    await election.leading;
    const lease = server.get(path);
    assert.ok(lease !== undefined);
    const spec = { ...(lease["spec"] as object), holderIdentity: "b" };
    server.put(path.replace("/absent", ""), { ...lease, spec });

    await election.lost;

    assert.equal(election.isLeading, false);
    await election.release();
    await delay(1);
    await server.close();
  });
});

function randomOf(seed: number): () => number {
  let state = seed * 7_919;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}
