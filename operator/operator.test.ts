import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { InferenceServiceStatus } from "./api/inference-service.ts";
import { Operator } from "./operator.ts";
import { aService } from "./reconcile/testing.ts";
import { FakeApiServer, type FakeObject } from "./runtime/fake-api-server.ts";

const services = "/apis/quire.dev/v1alpha1/namespaces/team-a/inferenceservices";
const pods = "/api/v1/namespaces/team-a/pods";
const fronts = "/api/v1/namespaces/team-a/services";
const budgets = "/apis/policy/v1/namespaces/team-a/poddisruptionbudgets";

describe("Operator", () => {
  let server: FakeApiServer;
  let stop: AbortController;
  let ended: Promise<number>;
  beforeEach(async () => {
    server = await new FakeApiServer().listen();
    stop = new AbortController();
    server.put("/api/v1/namespaces", { metadata: { name: "team-a" } });
    ended = start();
  });
  afterEach(async () => {
    stop.abort();
    await ended;
    await server.close();
  });

  it("makes a service's pods and what stands around them, and tells how far it is", async () => {
    put({ replicas: 2, scaling: { mode: "Static" } });
    await until(() => podsNow().length === 2 && status().replicas === 2);

    const [pod] = podsNow();
    assert.match(pod?.metadata.name ?? "", /^granite-[0-9a-f]{10}-0$/);
    assert.deepEqual(server.get(`${services}/granite`)?.metadata["finalizers"], [
      "quire.dev/drain",
    ]);
    assert.ok(server.get(`${fronts}/granite`) !== undefined);
    assert.deepEqual((server.get(`${budgets}/granite`)?.["spec"] as object) ?? {}, {
      minAvailable: 1,
      selector: { matchLabels: { "quire.dev/inferenceservice": "granite" } },
    });

    for (const one of podsNow()) makeReady(one);
    await until(() => status().phase === "Serving" && status().readyReplicas === 2);
    assert.equal(status().url, "http://granite.team-a.svc");
  });

  it("writes nothing more once all is settled", async () => {
    put({ replicas: 1, scaling: { mode: "Static" } });
    await until(() => podsNow().length === 1);
    for (const one of podsNow()) makeReady(one);
    await until(() => status().phase === "Serving");
    await quiet();

    const count = writes().length;
    server.put(services, { ...existing(), metadata: { ...existing().metadata, note: "x" } });
    await delay(1_500);

    assert.deepEqual(writes().slice(count), []);
    assert.ok(count <= 12, `${count} writes for one service with all its events`);
  });

  it("puts back what somebody else changed", async () => {
    put({ replicas: 1, scaling: { mode: "Static" } });
    await until(() => server.get(`${fronts}/granite`) !== undefined && podsNow().length === 1);

    server.remove(`${fronts}/granite`);
    await until(() => server.get(`${fronts}/granite`) !== undefined);
    const [pod] = podsNow();
    server.remove(`${pods}/${pod?.metadata.name}`);
    await until(() => podsNow().length === 1);
  });

  it("takes a pod out of the endpoints before it deletes it", async () => {
    put({ replicas: 2, scaling: { mode: "Static" } });
    await until(() => podsNow().length === 2);
    for (const one of podsNow()) makeReady(one);
    await until(() => status().readyReplicas === 2);

    put({ replicas: 1, scaling: { mode: "Static" }, drain: { timeout: "1s" } });
    await until(() => podsNow().some(isDraining));
    const drained = podsNow().find(isDraining);
    const labels = drained?.metadata["labels"] as Record<string, string>;
    assert.equal(labels["quire.dev/serving"], undefined);
    assert.equal(labels["quire.dev/inferenceservice"], "granite");
    await until(() => !podsNow().some(({ metadata }) => metadata.uid === drained?.metadata.uid));
  });

  it("lets a deleted service go once its pods are gone, and leaves none", async () => {
    put({ replicas: 2, scaling: { mode: "Static" }, drain: { timeout: "1s" } });
    await until(() => podsNow().length === 2);

    await remove(`${services}/granite`);
    await until(() => server.get(`${services}/granite`) === undefined);

    assert.deepEqual(podsNow(), []);
  });

  it("says what the API server refused, with a remedy", async () => {
    const message = "pods is forbidden: exceeded quota: gpus";
    server.faults.push(({ method, path }) =>
      method === "POST" && path === pods
        ? { status: 403, body: { reason: "Forbidden", message } }
        : undefined,
    );
    put({ replicas: 1, scaling: { mode: "Static" } });

    await until(() => status().conditions?.[0]?.reason === "QuotaExceeded");
    assert.match(status().conditions?.[0]?.message ?? "", /exceeded quota: gpus\. Raise the/);
  });

  it("applies an edit of a policy to the services that it selects", async () => {
    put({ scaling: { mode: "Auto", minReplicas: 1, maxReplicas: 2 } });
    await until(() => podsNow().length === 1);
    const policy = {
      apiVersion: "quire.dev/v1alpha1",
      kind: "AutoscalingPolicy",
      metadata: { name: "gold" },
      spec: {
        priority: 0,
        selector: {},
        algorithm: { scaleUpAt: "0.85", scaleDownAt: "0.70", staleAfter: "5s" },
      },
    };
    server.put("/apis/quire.dev/v1alpha1/autoscalingpolicies", policy);

    await until(() => status().scaling?.appliedPolicy === "gold", 2_000);
  });

  it("converges with one pod a slot, whatever the API server does meanwhile", async () => {
    let state = 11;
    const random = () => {
      state = (state * 48_271) % 2_147_483_647;
      return state / 2_147_483_647;
    };
    server.faults.push(({ path }) => {
      if (path.includes("/leases/") || random() > 0.25) return undefined;
      return random() < 0.5
        ? "cut"
        : { status: [409, 429, 500, 503][Math.floor(random() * 4)] ?? 500 };
    });
    for (let round = 1; round <= 6; round++) {
      put({ replicas: 1 + Math.floor(random() * 3), scaling: { mode: "Static" } });
      if (random() < 0.5) server.cutWatches();
      if (random() < 0.3) server.compact();
      await delay(200);
      assert.ok(podsNow().length <= 4, `${podsNow().length} pods`);
    }
    put({ replicas: 3, scaling: { mode: "Static" } });
    server.faults.length = 0;
    await until(() => podsNow().length === 3, 20_000);

    const ordinals = podsNow().map(({ metadata }) => metadata.name.at(-1));
    assert.equal(new Set(ordinals).size, 3);
  });

  it("ends when it is told to, and gives the lease away", async () => {
    put({ replicas: 1, scaling: { mode: "Static" } });
    await until(() => podsNow().length === 1);

    stop.abort();

    assert.equal(await ended, 0);
    const lease = server.get("/apis/coordination.k8s.io/v1/namespaces/quire/leases/absent");
    assert.partialDeepStrictEqual(lease?.["spec"], { holderIdentity: "" });
  });

  function start(): Promise<number> {
    const operator = new Operator(
      {
        engineImage: "quire:cuda",
        leaseNamespace: "quire",
        leaseName: "absent",
        identity: "operator-0",
        host: "127.0.0.1",
        port: 0,
        logLevel: "silent",
      },
      server,
    );
    return operator.run(stop.signal);
  }

  function put(spec: Parameters<typeof aService>[0]): void {
    const known = server.get(`${services}/granite`);
    const generation = Number(known?.metadata["generation"] ?? 0) + 1;
    const metadata = { name: "granite", namespace: "team-a", ...known?.metadata, generation };
    const service = aService(spec, { metadata });
    server.put(services, { ...known, ...service, metadata });
  }

  function existing(): FakeObject {
    const object = server.get(`${services}/granite`);
    assert.ok(object !== undefined);
    return object;
  }

  function status(): InferenceServiceStatus {
    return (server.get(`${services}/granite`)?.["status"] ?? {}) as InferenceServiceStatus;
  }

  function podsNow(): FakeObject[] {
    return server.objects().filter((object) => object["kind"] === "Pod");
  }

  function makeReady(pod: FakeObject): void {
    const conditions = [{ type: "Ready", status: "True" }];
    const state = { running: { startedAt: "2030-01-01T12:00:00Z" } };
    const containerStatuses = [{ name: "engine", image: "x", restartCount: 0, state }];
    server.put(pods, { ...pod, status: { phase: "Running", conditions, containerStatuses } });
  }

  function writes() {
    return server.requests
      .filter(({ method, path }) => method !== "GET" && !path.includes("/leases/"))
      .map(({ method, path }) => `${method} ${path}`);
  }

  /** Until nothing was written for a second. */
  async function quiet(): Promise<void> {
    for (let count = -1; count !== writes().length; await delay(1_000)) count = writes().length;
  }

  async function remove(path: string): Promise<void> {
    const { origin } = await server.current();
    await fetch(origin + path, { method: "DELETE" });
  }
});

function isDraining({ metadata }: FakeObject): boolean {
  const annotations = metadata["annotations"] as Record<string, string> | undefined;
  return annotations?.["quire.dev/draining-since"] !== undefined;
}

async function until(condition: () => boolean, timeoutMs = 10_000): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!condition()) {
    assert.ok(performance.now() < endMs, String(condition));
    await delay(5);
  }
}
