import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { FakeApiServer, type FakeObject, type Fault } from "./fake-api-server.ts";
import type { Resource } from "./kubernetes-object.ts";
import { Reflector, type ReflectorTiming } from "./reflector.ts";
import { Store } from "./store.ts";
import { Transport } from "./transport.ts";

const pods: Resource = { group: "", version: "v1", kind: "Pod", plural: "pods" };
const collection = "/api/v1/pods";

describe("Reflector", () => {
  let server: FakeApiServer;
  let stop: AbortController;
  beforeEach(async () => {
    server = await new FakeApiServer().listen();
    stop = new AbortController();
  });
  afterEach(async () => {
    stop.abort();
    await server.close();
  });

  it("shows what is there, then what happens", async () => {
    server.put(collection, pod("a"));
    const { store } = start();
    await until(() => store.get("a") !== undefined);
    await until(() => server.watchCount === 1);

    server.put(collection, pod("b"));
    server.put(collection, pod("a", { phase: "Running" }));
    await until(() => store.get("b") !== undefined);
    server.remove(`${collection}/b`);
    await until(() => store.get("b") === undefined);

    assert.equal(store.get("a")?.["phase"], "Running");
    assert.deepEqual(listRequests().length, 1);
  });

  it("lists page by page", async () => {
    for (let i = 0; i < 1_203; i++) server.put(collection, pod(`p${i}`));

    const { store } = start();
    await store.synced;

    assert.equal(store.size, 1_203);
    assert.deepEqual(
      listRequests().map(({ query }) => query.get("continue")),
      [null, "500", "1000"],
    );
  });

  it("begins a list anew whose pages have expired", async () => {
    for (let i = 0; i < 600; i++) server.put(collection, pod(`p${i}`));
    server.faults.push(first(({ query }) => query.has("continue"), { status: 410 }));

    const { store } = start();
    await store.synced;

    assert.equal(store.size, 600);
  });

  it("goes on where a broken watch ended, without listing", async () => {
    const { store, errors } = start();
    await until(() => server.watchCount === 1);
    server.put(collection, pod("a"));
    await until(() => store.size === 1);

    server.cutWatches();
    server.put(collection, pod("b"));
    await until(() => store.size === 2);

    assert.equal(listRequests().length, 1);
    assert.equal(errors.length, 1);
    assert.equal(watchRequests().at(-1)?.query.get("resourceVersion"), "1");
  });

  it("goes on from a bookmark", async () => {
    const { store } = start();
    await until(() => server.watchCount === 1);
    server.put("/api/v1/other", pod("elsewhere"));
    server.bookmark();
    server.put(collection, pod("a"));
    await until(() => store.size === 1);
    server.bookmark();

    server.cutWatches();
    await until(() => watchRequests().length === 2);

    assert.equal(watchRequests()[0]?.query.get("allowWatchBookmarks"), "true");
    assert.equal(watchRequests()[1]?.query.get("resourceVersion"), "2");
  });

  it("lists again when its version is too old, and tells of what went meanwhile", async () => {
    server.put(collection, pod("a"));
    const { store } = start();
    await until(() => server.watchCount === 1);
    const gone: (string | undefined)[] = [];
    store.subscribe(({ before, after }) => {
      if (after === undefined) gone.push(before?.metadata.name);
    });
    server.faults.push(first(({ query }) => query.has("watch"), "cut"));

    server.cutWatches();
    server.remove(`${collection}/a`);
    server.compact();
    await until(() => gone.length === 1);

    assert.deepEqual(gone, ["a"]);
    assert.equal(listRequests().length, 2);
  });

  it("lists again after an error in the stream that it does not know", async () => {
    const { store } = start();
    await until(() => server.watchCount === 1);

    server.sendToWatches("ERROR", { code: 500, message: "internal" });
    server.put(collection, pod("a"));
    await until(() => store.size === 1 && listRequests().length === 2);
  });

  const refusals = [401, 403, 404, 429, 500, 503];
  for (const status of refusals) {
    it(`goes on after ${status} to list and watch`, async () => {
      let count = 0;
      server.faults.push(() => (count++ < 10 ? { status } : undefined));

      const { store } = start();
      server.put(collection, pod("a"));
      await until(() => store.size === 1 && server.watchCount === 1);
    });
  }

  it("leaves a watch that says nothing", async () => {
    const { store } = start({ silenceMs: 60 });
    await until(() => server.watchCount === 1);

    await until(() => watchRequests().length >= 3);
    server.put(collection, pod("a"));
    await until(() => store.size === 1);

    assert.equal(listRequests().length, 1);
  });

  it("keeps a watch that bookmarks alone keep alive", async () => {
    start({ silenceMs: 150 });
    await until(() => server.watchCount === 1);

    for (let i = 0; i < 20; i++) {
      server.bookmark();
      await delay(20);
    }

    assert.equal(watchRequests().length, 1);
  });

  it("pauses longer with each failure in a row", async () => {
    const times: number[] = [];
    server.faults.push(() => {
      times.push(performance.now());
      return { status: 403 };
    });

    start({ firstPauseMs: 20, maxPauseMs: 80 });
    await until(() => times.length === 6);

    const pauses = times.slice(1).map((time, i) => time - (times[i] ?? 0));
    assert.ok((pauses[3] ?? 0) >= 39 && (pauses[4] ?? 0) >= 39, pauses.join());
  });

  it("opens nothing after it was stopped, not even from a pause", async () => {
    server.faults.push(() => ({ status: 403 }));
    const { done } = start({ firstPauseMs: 30 });
    await until(() => server.requests.length === 2);

    stop.abort();
    await done;
    const count = server.requests.length;
    await delay(60);

    assert.equal(server.requests.length, count);
  });

  it("asks for watches of different lengths, within their bounds", async () => {
    start({ silenceMs: 5 });
    await until(() => watchRequests().length >= 10);

    const lengths = watchRequests().map(({ query }) => Number(query.get("timeoutSeconds")));
    assert.ok(lengths.every((seconds) => seconds >= 290 && seconds <= 590));
    assert.ok(new Set(lengths).size > 1);
  });

  it("converges whatever is cut, refused or forgotten on the way", async () => {
    let state = 7;
    const random = () => {
      state = (state * 48_271) % 2_147_483_647;
      return state / 2_147_483_647;
    };
    const statuses = [429, 500, 503, 410];
    server.faults.push(() => {
      if (random() > 0.3) return undefined;
      return random() < 0.5 ? "cut" : { status: statuses[Math.floor(random() * 4)] ?? 500 };
    });
    const { store } = start({ maxPauseMs: 10 });

    for (let round = 0; round < 150; round++) {
      const name = `p${Math.floor(random() * 12)}`;
      if (random() < 0.3) server.remove(`${collection}/${name}`);
      else server.put(collection, pod(name, { round }));
      if (random() < 0.1) server.cutWatches();
      if (random() < 0.05) server.compact();
      await delay(1);
    }
    server.faults.length = 0;

    const truth = () => sorted(server.objects());
    await until(() => JSON.stringify(sorted(store.values())) === JSON.stringify(truth()));
  });

  function start(timing: Partial<ReflectorTiming> = {}) {
    const store = new Store<FakeObject>();
    const errors: unknown[] = [];
    const reflector = new Reflector<FakeObject>({
      transport: new Transport({ credentials: server }),
      resource: pods,
      store,
      onError: (_, error) => errors.push(error),
      timing: { firstPauseMs: 2, maxPauseMs: 20, ...timing },
    });
    return { store, errors, done: reflector.run(stop.signal) };
  }

  function listRequests() {
    return server.requests.filter(({ query }) => !query.has("watch"));
  }

  function watchRequests() {
    return server.requests.filter(({ query }) => query.has("watch"));
  }
});

function pod(name: string, fields: Record<string, unknown> = {}): FakeObject {
  return { metadata: { name }, ...fields };
}

function sorted(objects: readonly FakeObject[]): FakeObject[] {
  return objects.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}

function first(
  matches: (request: FakeApiServer["requests"][number]) => boolean,
  fault: Fault,
): (request: FakeApiServer["requests"][number]) => Fault | undefined {
  let done = false;
  return (request) => {
    if (done || !matches(request)) return undefined;
    done = true;
    return fault;
  };
}

async function until(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < endMs, String(condition));
    await delay(1);
  }
}
