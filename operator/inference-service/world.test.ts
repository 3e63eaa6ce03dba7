import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { aPolicy, aService } from "../reconcile/testing.ts";
import { FakeApiServer } from "../runtime/fake-api-server.ts";
import { Transport } from "../runtime/transport.ts";
import type { Pod } from "./pod-manifest.ts";
import { World } from "./world.ts";

const metadata = { name: "granite", namespace: "team-a", uid: "u1", resourceVersion: "1" };

describe("World", () => {
  it("tells of a new service, of an edit, and not of a status alone", () => {
    const { world, told } = aWorld();
    const service = aService({}, { metadata });
    world.services.apply("ADDED", service);
    const second = { ...metadata, resourceVersion: "2" };
    const serving = aService({}, { metadata: second, status: { phase: "Serving" } });
    world.services.apply("MODIFIED", serving);
    assert.deepEqual(told, ["team-a/granite"]);

    const third = { ...metadata, resourceVersion: "3", generation: 2 };
    world.services.apply("MODIFIED", aService({ suspend: true }, { metadata: third }));

    assert.equal(told.length, 2);
  });

  it("tells every service of an edited policy, and none of a policy's status", () => {
    const { world, told } = aWorld();
    world.services.apply("ADDED", aService({}, { metadata }));
    told.length = 0;
    const at = (resourceVersion: string) => ({ name: "gold", resourceVersion });

    world.policies.apply("ADDED", { ...aPolicy(), metadata: at("1") });
    assert.equal(told.length, 1);
    const status = { matchedServices: 1 };
    world.policies.apply("MODIFIED", { ...aPolicy(), metadata: at("2"), status });
    assert.equal(told.length, 1);
    world.policies.apply("MODIFIED", { ...aPolicy({ priority: 5 }), metadata: at("3") });
    assert.equal(told.length, 2);
  });

  it("tells the services of a namespace whose labels changed", () => {
    const { world, told } = aWorld();
    world.services.apply("ADDED", aService({}, { metadata }));
    told.length = 0;
    const namespace = (resourceVersion: string, labels: Record<string, string>) => ({
      metadata: { name: "team-a", resourceVersion, labels },
    });
    world.namespaces.apply("ADDED", namespace("1", { env: "test" }));
    world.namespaces.apply("MODIFIED", namespace("2", { env: "test" }));
    assert.deepEqual(told, []);

    world.namespaces.apply("MODIFIED", namespace("3", { env: "prod" }));

    assert.deepEqual(told, ["team-a/granite"]);
    assert.deepEqual(world.namespaceLabels("team-a"), { env: "prod" });
  });

  it("tells the service of a pod that came or went, and keeps little of the pod", () => {
    const { world, told } = aWorld();
    const pod: Pod = {
      metadata: {
        name: "granite-0",
        namespace: "team-a",
        resourceVersion: "5",
        labels: { "quire.dev/inferenceservice": "granite" },
      },
      spec: { nodeName: "n1", containers: [{ name: "engine" }] },
    };

    world.pods.apply("ADDED", pod);

    assert.deepEqual(told, ["team-a/granite"]);
    assert.deepEqual(world.pods.get("team-a/granite-0")?.spec, { containers: [], nodeName: "n1" });
  });
});

function aWorld() {
  const world = new World({
    transport: new Transport({ credentials: new FakeApiServer() }),
    namespace: undefined,
    onError: () => undefined,
    onList: () => undefined,
  });
  const told: string[] = [];
  world.subscribe((key) => told.push(key));
  return { world, told };
}
