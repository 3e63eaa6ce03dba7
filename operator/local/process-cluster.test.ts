import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { podTemplate } from "../reconcile/pod-template.ts";
import { aService, noon } from "../reconcile/testing.ts";
import { ProcessCluster } from "./process-cluster.ts";
import { defaultReplicaTiming } from "./replica-process.ts";
import { ServiceStore, serviceKey } from "./service-store.ts";

describe("ProcessCluster", () => {
  it("makes one pod of a name, however often it is asked for", async (t) => {
    const { cluster, service, newPod } = await aCluster(t, { gpus: ["0", "1"] });

    await cluster.createPod(service, newPod(0));
    await cluster.createPod(service, newPod(0));

    assert.equal(cluster.pods().length, 1);
    const { pods } = await cluster.observe(service);
    assert.equal(pods[0]?.unschedulable, undefined);
    await cluster.createPod(service, newPod(1));
    assert.equal((await cluster.observe(service)).pods[1]?.unschedulable, undefined);
  });

  it("lets a pod wait for a GPU until another pod has left it", async (t) => {
    const { cluster, service, newPod } = await aCluster(t, { gpus: ["7"] });
    await cluster.createPod(service, newPod(0));
    await cluster.createPod(service, newPod(1));
    const waiting = cluster.pods()[1];
    assert.match(waiting?.unschedulable ?? "", /1 GPU asked for, 0 of 1/);
    const seen = (await cluster.observe(service)).pods.map(({ phase }) => phase);
    assert.deepEqual(seen, ["Running", "Pending"]);

    await cluster.deletePod(service, newPod(0).name);
    assert.equal((await cluster.observe(service)).pods[0]?.phase, "Terminating");
    await until(() => cluster.pods().length === 1);

    const [placed] = cluster.pods();
    assert.equal(placed?.spec.name, newPod(1).name);
    assert.deepEqual(placed?.gpus, ["7"]);
    assert.equal(placed?.unschedulable, undefined);
  });

  it("forgets a pod that waits at once when it is deleted", async (t) => {
    const { cluster, service, newPod } = await aCluster(t, { gpus: [] });
    await cluster.createPod(service, newPod(0));

    await cluster.deletePod(service, newPod(0).name);
    await cluster.deletePod(service, newPod(0).name);

    assert.deepEqual(cluster.pods(), []);
  });

  it("sends requests to replicas that are ready and do not drain", async (t) => {
    const { cluster, service, newPod } = await aCluster(t, { gpus: ["0"], behaviour: "load=500" });
    await cluster.createPod(service, newPod(0));
    const route = () => cluster.resolve("granite") ?? assert.fail("no route");
    await until(() => cluster.pods()[0]?.replica?.startup?.phase === "Loading");
    assert.deepEqual(route().replicas, []);

    await until(() => route().replicas.length === 1);
    assert.equal(route().replicas[0]?.port, cluster.pods()[0]?.replica?.port);
    await cluster.drainPod(service, newPod(0).name);

    assert.deepEqual(route().replicas, []);
    assert.notEqual(cluster.podsOf(serviceKey(service))[0]?.drainingSince, undefined);
    assert.equal(cluster.resolve("another"), undefined);
  });
});

async function aCluster(
  t: TestContext,
  { gpus, behaviour = "plain" }: { gpus: readonly string[]; behaviour?: string },
) {
  const runFolder = await mkdtemp(join(tmpdir(), "quire-cluster-"));
  const store = new ServiceStore();
  store.apply([aService({ model: { uri: `file:///models/${behaviour}` } })], noon);
  const service = store.services()[0] ?? assert.fail();
  const cluster = new ProcessCluster({
    store,
    runFolder,
    program: {
      program: process.execPath,
      args: [join(import.meta.dirname, "fake-engine.ts")],
      env: {},
    },
    gpus,
    timing: { ...defaultReplicaTiming, probeIntervalMs: 20 },
    url: "http://127.0.0.1:1",
    inFlightOf: () => 0,
    onChange: () => {},
    onEvent: () => {},
  });
  t.after(async () => {
    while (cluster.pods().some(({ replica }) => replica !== undefined)) {
      cluster.killAll();
      await cluster.drainAll();
    }
    await rm(runFolder, { recursive: true });
  });
  const template = podTemplate(service);
  const newPod = (ordinal: number) => ({ name: `granite-${ordinal}`, ordinal, template });
  return { cluster, service, newPod };
}

async function until(condition: () => boolean): Promise<void> {
  const endMs = Date.now() + 20_000;
  while (!condition()) {
    assert.ok(Date.now() < endMs, String(condition));
    await delay(10);
  }
}
