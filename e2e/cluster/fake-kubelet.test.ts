import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { engineMetrics, enginePaths, enginePort } from "../../engine/contract.ts";
import { until } from "../program.ts";
import { behaviourAnnotation } from "./behaviour.ts";
import { Cluster } from "./cluster.ts";
import type { Pod } from "./pod-status.ts";
import { clusterMissing } from "./requirements.ts";

const podsPath = "/api/v1/namespaces/default/pods";
const deadlineMs = 60_000;

describe("pods of fake nodes", { skip: clusterMissing() ?? false, timeout: 300_000 }, () => {
  let cluster: Cluster;

  before(async () => {
    cluster = await Cluster.start();
    cluster.printOnFailure();
    await cluster.addNodes({ count: 2, gpusPerNode: 4 });
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  it("become ready and answer as engines do", async () => {
    await create({ name: "good", words: "kv=0.25,waiting=3" });

    await reaches("good", ({ status }) => isReady(status));

    const metrics = await cluster.request("GET", proxied("good", enginePaths.metrics));
    assert.match(String(metrics.body), new RegExp(`^${engineMetrics.waitingRequests} 3$`, "m"));
    assert.match(String(metrics.body), new RegExp(`^${engineMetrics.kvTokensInUse} 25000$`, "m"));
    assert.equal((await cluster.request("GET", proxied("good", enginePaths.ready))).status, 200);
  });

  it("are counted by their GPUs", async () => {
    await create({ name: "four", gpus: 4 });
    await reaches("four", ({ status }) => isReady(status));
    await create({ name: "other-four", gpus: 4 });
    await reaches("other-four", ({ status }) => isReady(status));

    await create({ name: "one-more", gpus: 1 });

    const pod = await reaches(
      "one-more",
      ({ status }) => status.conditions?.[0]?.reason !== undefined,
    );
    assert.equal(pod.status.conditions?.[0]?.reason, "Unschedulable");
    assert.match(pod.status.conditions?.[0]?.message ?? "", /2 Insufficient nvidia\.com\/gpu/);
    await remove("four", "other-four");
    await reaches("one-more", ({ status }) => isReady(status));
    await remove("one-more");
  });

  it("load as long as they are told, and say how far they are", async () => {
    await create({ name: "stalls", words: "stall" });

    const pod = await reaches("stalls", ({ status }) => status.phase === "Running");

    assert.equal(isReady(pod.status), false);
    const startup = await cluster.request("GET", proxied("stalls", enginePaths.startup));
    assert.equal(startup.status, 503);
    assert.equal((startup.body as { phase: string }).phase, "Loading");
  });

  it("crash, leave a message and are started again", async () => {
    await create({ name: "crashes", words: "crash=20" });

    const pod = await reaches("crashes", ({ status }) => containerOf(status).restartCount >= 2);

    assert.equal(isReady(pod.status), false);
    const { lastState } = containerOf(pod.status);
    assert.equal(lastState?.terminated?.exitCode, 1);
    assert.equal(JSON.parse(lastState?.terminated?.message ?? "").code, "MODEL_UNSUPPORTED");
  });

  it("run out of memory", async () => {
    await create({ name: "oom", words: "oom=20" });

    const pod = await reaches("oom", ({ status }) => containerOf(status).restartCount >= 1);

    const { lastState } = containerOf(pod.status);
    assert.deepEqual(
      [lastState?.terminated?.reason, lastState?.terminated?.exitCode],
      ["OOMKilled", 137],
    );
  });

  it("wait for an image that is not there", async () => {
    await create({ name: "no-image", words: "image" });

    const pod = await reaches("no-image", ({ status }) => status.containerStatuses !== undefined);

    await reaches(
      "no-image",
      ({ status }) => containerOf(status).state.waiting?.reason === "ImagePullBackOff",
    );
    assert.equal(pod.status.phase, "Pending");
  });

  it("change while they run, once", async () => {
    await create({ name: "changes" });
    await reaches("changes", ({ status }) => isReady(status));

    await cluster.kubectl(["annotate", "pod/changes", `${behaviourAnnotation}=crash,once`]);

    const pod = await reaches(
      "changes",
      ({ status }) => containerOf(status).restartCount === 1 && isReady(status),
    );
    assert.equal(containerOf(pod.status).lastState?.terminated?.reason, "Error");
  });

  it("are not ready while a readiness gate is open", async () => {
    await create({ name: "gated", gate: "quire.dev/serving" });
    const pod = await reaches("gated", ({ status }) => containerOf(status).ready);
    assert.equal(isReady(pod.status), false);

    const conditions = [{ type: "quire.dev/serving", status: "True" }];
    const type = "application/strategic-merge-patch+json";
    await cluster.request("PATCH", `${podsPath}/gated/status`, { status: { conditions } }, type);

    await reaches("gated", ({ status }) => isReady(status));
  });

  it("drain before they go, and leave their address", async () => {
    await create({ name: "drains", words: "drain=1500" });
    const { metadata } = await reaches("drains", ({ status }) => isReady(status));

    await cluster.request("DELETE", `${podsPath}/drains`);

    await reaches("drains", ({ status }) => !isReady(status));
    const metrics = await cluster.request("GET", proxied("drains", enginePaths.metrics));
    assert.match(String(metrics.body), new RegExp(`^${engineMetrics.draining} 1$`, "m"));
    await until("the pod is gone", deadlineMs, async () => {
      const { status, body } = await cluster.request("GET", `${podsPath}/drains`);
      return status === 404 || (body as Pod).metadata.uid !== metadata.uid;
    });
  });

  it("are gone with nothing left when all are deleted", async () => {
    await cluster.kubectl(["delete", "pods", "--all", "--timeout=60s"]);

    const { body } = await cluster.request("GET", podsPath);
    assert.deepEqual((body as { items: unknown[] }).items, []);
  });

  async function create({ name, words = "", gpus = 0, gate }: PodOptions): Promise<void> {
    const { status, body } = await cluster.request("POST", podsPath, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name },
      spec: {
        ...(gate === undefined ? {} : { readinessGates: [{ conditionType: gate }] }),
        containers: [
          {
            name: "engine",
            image: "quire.example/engine:1",
            env: [{ name: "QUIRE_MODEL", value: `/fake/${words}` }],
            ...(gpus === 0 ? {} : { resources: { limits: { "nvidia.com/gpu": gpus } } }),
          },
        ],
      },
    });
    assert.equal(status, 201, JSON.stringify(body));
  }

  async function reaches(name: string, holds: (pod: PodView) => boolean): Promise<PodView> {
    return await until(`pod ${name} is as expected`, deadlineMs, async () => {
      const { status, body } = await cluster.request("GET", `${podsPath}/${name}`);
      return status === 200 && holds(body as PodView) ? (body as PodView) : undefined;
    });
  }

  async function remove(...names: readonly string[]): Promise<void> {
    await cluster.kubectl(["delete", "pod", ...names, "--timeout=60s"]);
  }
});

interface PodOptions {
  readonly name: string;
  readonly words?: string;
  readonly gpus?: number;
  readonly gate?: string;
}

interface PodView {
  readonly metadata: { readonly uid: string };
  readonly status: {
    readonly phase?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
    readonly containerStatuses?: readonly ContainerView[];
  };
}

interface ContainerView {
  readonly ready: boolean;
  readonly restartCount: number;
  readonly state: { readonly waiting?: { readonly reason: string } };
  readonly lastState?: {
    readonly terminated?: {
      readonly reason: string;
      readonly exitCode: number;
      readonly message?: string;
    };
  };
}

function isReady({ conditions }: PodView["status"]): boolean {
  return conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
}

function containerOf({ containerStatuses }: PodView["status"]): ContainerView {
  return containerStatuses?.[0] ?? { ready: false, restartCount: 0, state: {} };
}

function proxied(name: string, path: string): string {
  return `${podsPath}/${name}:${enginePort}/proxy${path}`;
}
