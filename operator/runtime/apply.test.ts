import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { type AppliedObject, Applier } from "./apply.ts";
import { FakeApiServer, type FakeObject } from "./fake-api-server.ts";
import type { Resource } from "./kubernetes-object.ts";
import { patchStatus } from "./status.ts";
import { Transport } from "./transport.ts";

const services: Resource = { group: "", version: "v1", kind: "Service", plural: "services" };
const path = "/api/v1/namespaces/a/services/web";

describe("Applier", () => {
  let server: FakeApiServer;
  let applier: Applier;
  beforeEach(async () => {
    server = await new FakeApiServer().listen();
    applier = new Applier({
      transport: new Transport({ credentials: server }),
      fieldManager: "tester",
      hashAnnotation: "example.org/hash",
    });
  });
  afterEach(() => server.close());

  it("applies what is not there as the owner of its fields", async () => {
    await applier.apply(services, aService(), undefined);

    const [request] = server.requests;
    assert.equal(request?.method, "PATCH");
    assert.equal(request?.path, path);
    assert.equal(request?.headers["content-type"], "application/apply-patch+yaml");
    assert.equal(request?.query.toString(), "fieldManager=tester&force=true");
    assert.partialDeepStrictEqual(request?.body, { apiVersion: "v1", kind: "Service" });
  });

  it("writes nothing where all is as it should be, whatever others added", async () => {
    const live = await applier.apply<FakeObject>(services, aService(), undefined);
    const spec = { ...(live?.["spec"] as object), clusterIP: "10.0.0.1" };

    const second = await applier.apply(services, aService(), { ...stored(live), spec });

    assert.equal(second, undefined);
    assert.equal(server.requests.length, 1);
  });

  const drifts: readonly (readonly [string, (live: FakeObject) => FakeObject])[] = [
    ["a changed field", (live) => ({ ...live, spec: { ports: [{ port: 81 }] } })],
    ["a removed field", (live) => ({ ...live, spec: {} })],
    ["an added list item", (live) => ({ ...live, spec: { ports: [{ port: 80 }, { port: 9 }] } })],
    ["a list that became a map", (live) => ({ ...live, spec: { ports: { 0: { port: 80 } } } })],
    ["a field that became null", (live) => ({ ...live, spec: null })],
    ["a lost label", (live) => ({ ...live, metadata: { ...live.metadata, labels: {} } })],
  ];
  for (const [name, drift] of drifts) {
    it(`applies again after ${name}`, async () => {
      const live = await applier.apply<FakeObject>(services, aService(), undefined);

      assert.notEqual(await applier.apply(services, aService(), drift(stored(live))), undefined);
    });
  }

  it("applies again when a field is not desired any more", async () => {
    const more = { ...aService(), spec: { ports: [{ port: 80 }], type: "NodePort" } };
    const live = await applier.apply<FakeObject>(services, more, undefined);

    assert.notEqual(await applier.apply(services, aService(), live), undefined);
  });
});

describe("patchStatus", () => {
  let server: FakeApiServer;
  beforeEach(async () => {
    server = await new FakeApiServer().listen();
  });
  afterEach(() => server.close());

  it("replaces the status, also what is in the old one alone", async () => {
    const object = put({ status: { old: 1 } });

    const after = await patchStatus(new Transport({ credentials: server }), services, object, {
      phase: "Serving",
    });

    assert.deepEqual(after["status"], { phase: "Serving" });
    assert.equal(server.requests[0]?.path, `${path}/status`);
  });

  it("does not write to another object of the same name", async () => {
    const object = put({});
    server.remove(path);
    put({ status: { phase: "New" } });

    const written = patchStatus(new Transport({ credentials: server }), services, object, {});

    await assert.rejects(written, { code: 422 });
    assert.deepEqual(server.get(path)?.["status"], { phase: "New" });
  });

  function put(fields: Record<string, unknown>): FakeObject {
    return server.put("/api/v1/namespaces/a/services", {
      metadata: { name: "web", namespace: "a" },
      ...fields,
    });
  }
});

function aService(): AppliedObject {
  return {
    metadata: { name: "web", namespace: "a", labels: { app: "web" } },
    spec: { ports: [{ port: 80 }] },
  };
}

function stored(object: FakeObject | undefined): FakeObject {
  assert.ok(object !== undefined);
  return object;
}
