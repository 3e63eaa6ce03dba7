import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { aPolicy, aService, noon } from "../reconcile/testing.ts";
import { ServiceStore } from "./service-store.ts";

const key = "team-a/granite";
const later = new Date(noon.getTime() + 1_000);

describe("ServiceStore", () => {
  it("gives a new object an identity, an age and generation 1", () => {
    const store = new ServiceStore();

    assert.deepEqual(store.apply([fresh(), aPolicy()], noon), [key]);

    const { metadata } = store.get(key) ?? assert.fail();
    assert.match(metadata.uid ?? "", /^[0-9a-f-]{36}$/);
    assert.equal(metadata.generation, 1);
    assert.equal(metadata.creationTimestamp, noon.toISOString());
    assert.equal(store.policies()[0]?.metadata.name, "gold");
  });

  it("raises the generation when the spec changes, and keeps identity and status", () => {
    const store = new ServiceStore();
    store.apply([fresh()], noon);
    store.setStatus(key, { phase: "Serving" });
    const { uid } = store.get(key)?.metadata ?? assert.fail();

    store.apply([fresh()], later);
    assert.equal(store.get(key)?.metadata.generation, 1);
    store.apply([fresh({ suspend: true })], later);

    const service = store.get(key) ?? assert.fail();
    assert.equal(service.metadata.generation, 2);
    assert.equal(service.metadata.uid, uid);
    assert.equal(service.metadata.creationTimestamp, noon.toISOString());
    assert.equal(service.status?.phase, "Serving");
    assert.equal(service.spec.suspend, true);
  });

  it("keeps a service that is no longer asked for until it is released", () => {
    const store = new ServiceStore();
    store.apply([fresh()], noon);

    assert.deepEqual(store.apply([], later), [key]);
    store.apply([], new Date(later.getTime() + 5_000));

    assert.equal(store.get(key)?.metadata.deletionTimestamp, later.toISOString());
    store.release(key, later);
    assert.equal(store.get(key), undefined);
  });

  it("begins a service anew that is asked for again while its deletion is under way", () => {
    const store = new ServiceStore();
    store.apply([fresh()], noon);
    const { uid } = store.get(key)?.metadata ?? assert.fail();
    store.setStatus(key, { phase: "Serving" });
    store.apply([], noon);

    store.apply([fresh()], later);
    assert.equal(store.get(key)?.metadata.uid, uid);
    assert.notEqual(store.get(key)?.metadata.deletionTimestamp, undefined);
    store.release(key, later);

    const again = store.get(key) ?? assert.fail();
    assert.notEqual(again.metadata.uid, uid);
    assert.equal(again.metadata.deletionTimestamp, undefined);
    assert.equal(again.metadata.generation, 1);
    assert.equal(again.status, undefined);
  });

  it("forgets policies that are no longer asked for", () => {
    const store = new ServiceStore();
    store.apply([aPolicy()], noon);

    store.apply([], later);

    assert.deepEqual(store.policies(), []);
  });
});

function fresh(spec: Parameters<typeof aService>[0] = {}) {
  return aService(spec, { metadata: { name: "granite", namespace: "team-a" } });
}
