import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { KubernetesObject } from "./kubernetes-object.ts";
import { Store } from "./store.ts";

interface Thing extends KubernetesObject {
  readonly owner?: string;
}

describe("Store", () => {
  it("is synced by the first list and not before", async () => {
    const store = new Store<Thing>();
    store.apply("ADDED", thing("a", 1));
    assert.equal(store.hasSynced, false);

    store.replace([], "2");

    assert.equal(store.hasSynced, true);
    await store.synced;
  });

  it("tells of an object that a later list lacks", () => {
    const { store, changes } = aStore();
    store.replace([thing("a", 1), thing("b", 2)], "2");

    store.replace([thing("b", 2)], "5");

    assert.deepEqual(changes, ["+a1", "+b2", "-a1"]);
    assert.deepEqual(
      store.values().map(({ metadata }) => metadata.name),
      ["b"],
    );
  });

  it("tells of the end of an object that came back under another uid", () => {
    const { store, changes } = aStore();
    store.apply("ADDED", thing("a", 1));

    store.apply("MODIFIED", thing("a", 5, { uid: "second" }));

    assert.deepEqual(changes, ["+a1", "-a1", "+a5"]);
  });

  it("ignores an event about an older state than it knows", () => {
    const { store, changes } = aStore();
    store.apply("ADDED", thing("a", 1));
    store.remember(thing("a", 7));

    store.apply("MODIFIED", thing("a", 4));
    store.apply("DELETED", thing("a", 6));

    assert.equal(store.get("ns/a")?.metadata.resourceVersion, "7");
    assert.deepEqual(changes, ["+a1", "~a7"]);
  });

  it("does not bring back with an answer what it saw deleted", () => {
    const { store } = aStore();
    store.apply("ADDED", thing("a", 1));
    store.apply("DELETED", thing("a", 3));

    store.remember(thing("a", 2));

    assert.equal(store.get("ns/a"), undefined);
  });

  it("keeps what was made after the list was taken", () => {
    const { store } = aStore();
    store.remember(thing("a", 9));

    store.replace([], "8");
    assert.notEqual(store.get("ns/a"), undefined);
    store.replace([], "10");

    assert.equal(store.get("ns/a"), undefined);
  });

  it("finds objects by an index that follows every change", () => {
    const store = new Store<Thing, "owner">({
      indexes: { owner: ({ owner }) => (owner === undefined ? [] : [owner]) },
    });
    store.apply("ADDED", { ...thing("a", 1), owner: "x" });
    store.apply("ADDED", { ...thing("b", 2), owner: "x" });
    store.apply("MODIFIED", { ...thing("a", 3), owner: "y" });
    assert.deepEqual(names(store.by("owner", "x")), ["b"]);
    assert.deepEqual(names(store.by("owner", "y")), ["a"]);

    store.apply("DELETED", { ...thing("b", 4), owner: "x" });
    store.apply("MODIFIED", thing("a", 5));

    assert.deepEqual(names(store.by("owner", "x")), []);
    assert.deepEqual(names(store.by("owner", "y")), []);
  });

  it("keeps neither managed fields nor what the transform leaves out", () => {
    const store = new Store<Thing>({ transform: ({ owner: _, ...rest }) => rest });
    const metadata = { ...thing("a", 1).metadata, managedFields: [{ manager: "x" }] };

    store.apply("ADDED", { metadata, owner: "x" });

    assert.deepEqual(store.get("ns/a"), { metadata: thing("a", 1).metadata });
  });

  it("ends as the server has it, in whatever order answers overtake events", () => {
    for (let seed = 1; seed <= 300; seed++) {
      const random = randomOf(seed);
      const { store } = aStore();
      const truth = new Map<string, Thing>();
      const events: (() => void)[] = [];
      const answers: (() => void)[] = [];
      for (let version = 1; version <= 40; version++) {
        const name = "abc"[Math.floor(random() * 3)] ?? "a";
        const known = truth.get(name);
        const isDelete = known !== undefined && random() < 0.3;
        const uid = known?.metadata.uid ?? `u${version}`;
        const object = thing(name, version, { uid });
        if (isDelete) truth.delete(name);
        else truth.set(name, object);
        events.push(() => store.apply(isDelete ? "DELETED" : known ? "MODIFIED" : "ADDED", object));
        if (!isDelete && random() < 0.5) answers.push(() => store.remember(object));
        while (random() < 0.6 && answers.length > 0) answers.shift()?.();
        while (random() < 0.4 && events.length > 0) events.shift()?.();
      }
      for (const event of [...events, ...answers]) event();
      assert.deepEqual(
        new Map(store.values().map((object) => [object.metadata.name, object])),
        new Map([...truth].sort(([a], [b]) => order(store, a) - order(store, b))),
        `seed ${seed}`,
      );
    }
  });
});

function order(store: Store<Thing>, name: string): number {
  return store.values().findIndex(({ metadata }) => metadata.name === name);
}

function aStore() {
  const changes: string[] = [];
  const store = new Store<Thing>();
  store.subscribe(({ before, after }) => {
    const sign = before === undefined ? "+" : after === undefined ? "-" : "~";
    const { name, resourceVersion } = (after ?? before)?.metadata ?? { name: "?" };
    changes.push(`${sign}${name}${resourceVersion}`);
  });
  return { store, changes };
}

function thing(name: string, version: number, metadata: { uid?: string } = {}): Thing {
  return {
    metadata: { namespace: "ns", name, uid: name, resourceVersion: String(version), ...metadata },
  };
}

function names(things: readonly Thing[]): string[] {
  return things.map(({ metadata }) => metadata.name);
}

/** Mulberry32. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
