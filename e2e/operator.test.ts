import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Cluster } from "./cluster/cluster.ts";
import { installCrds } from "./cluster/crds.ts";
import { clusterMissing } from "./cluster/requirements.ts";
import type { SealedProcess } from "./cluster/sealed-network.ts";
import { until } from "./program.ts";

const quire = fileURLToPath(new URL("../operator/quire.mjs", import.meta.url));
const deadlineMs = 60_000;
/** The garbage collector looks for kinds that are new, as ours are, every 30 seconds. */
const collectionDeadlineMs = 150_000;
/** Longer than any poll of the operator's. */
const quietMs = 5_000;
/** Everything that the operator makes or changes, but the lease that shows it is alive. */
const kinds = "qis,pods,services,endpointslices,pdb,networkpolicies,controllerrevisions,events";

describe("quire operator on a real API server", { skip: clusterMissing() ?? false }, () => {
  let cluster: Cluster;
  let operator: SealedProcess;
  let operatorCount = 0;
  let namespace = "";

  before(async () => {
    cluster = await Cluster.start();
    cluster.printOnFailure();
    await installCrds(cluster);
    await cluster.addNodes({ count: 2, gpusPerNode: 8 });
    operator = startOperator();
  });
  after(() => cluster?.[Symbol.asyncDispose]());
  beforeEach(async (t) => {
    namespace = `test-${t.name
      .replace(/[^a-z]+/gi, "-")
      .slice(0, 40)
      .toLowerCase()}x`;
    await kubectl("create", "namespace", namespace);
  });
  afterEach(async () => {
    await kubectl("delete", "namespace", namespace, "--wait=false");
  });

  it("makes pods, a Service and a true status of six lines", async () => {
    await apply("granite", { model: { uri: "hf://owner/name" } });

    await kubectl("wait", "--for=condition=Ready", "qis/granite", "--timeout=120s");

    const pods = await list("pods");
    assert.equal(pods.length, 1);
    assert.match(pods[0]?.metadata.name ?? "", /^granite-[0-9a-f]{10}-0$/);
    const [, row] = (await kubectl("get", "qis")).trim().split("\n");
    assert.match(row ?? "", /^granite +owner\/name +True +1\/1/);
    const answer = await cluster.request(
      "GET",
      `/api/v1/namespaces/${namespace}/services/granite:80/proxy/health/ready`,
    );
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
  });

  it("scales up and down, keeping the pods that stay", async () => {
    await apply("granite", fixed(2));
    await ready("granite", 2);
    const two = await names("pods");

    await kubectl("scale", "qis/granite", "--replicas=4");
    await ready("granite", 4);
    const four = await names("pods");
    await kubectl("scale", "qis/granite", "--replicas=1");
    await ready("granite", 1);

    assert.deepEqual(
      four.map((name) => name.at(-1)),
      ["0", "1", "2", "3"],
    );
    assert.ok(two.every((name) => four.includes(name)));
    const [last, ...none] = await names("pods");
    assert.ok(four.includes(last ?? ""));
    assert.deepEqual(none, []);
  });

  it("writes nothing once all is settled, not even when it looks again", async () => {
    await apply("granite", fixed(2));
    await ready("granite", 2);
    await quiet();
    const before = await versions();

    await kubectl("annotate", "qis/granite", "example.com/touched=yes");
    await delay(quietMs);

    const after = await versions();
    const changed = [...after].filter(([name, version]) => before.get(name) !== version);
    assert.deepEqual(
      changed.map(([name]) => name),
      ["InferenceService/granite"],
    );
    assert.equal(after.size, before.size);
  });

  it("says why a pod does not serve", async () => {
    const cases: readonly (readonly [string, object, RegExp])[] = [
      ["crashes", fixed(1, "crash"), /FakeForCausalLM/],
      ["hungry", fixed(1, "oom"), /memory/i],
      ["imageless", fixed(1, "image"), /image/i],
      ["greedy", { ...fixed(3), ...gpus(8) }, /Insufficient nvidia\.com\/gpu/],
    ];
    for (const [name, spec] of cases) await apply(name, spec);

    for (const [name, , words] of cases) {
      await until(`${name} says ${words}`, deadlineMs, async () => {
        const { status, message } = await readyCondition(name);
        return status === "False" && words.test(message);
      });
    }
  });

  it("leaves nothing of a service that is deleted", async () => {
    await kubectl("delete", "events", "--all");
    const before = await names("services,endpointslices,pdb,networkpolicies,controllerrevisions");
    await apply("granite", fixed(2, "drain=1000"));
    await ready("granite", 2);

    await kubectl("delete", "qis/granite", "--timeout=120s");

    assert.deepEqual(await names("pods"), []);
    await until("the garbage collector has taken the rest", collectionDeadlineMs, async () => {
      const left = await names("services,endpointslices,pdb,networkpolicies,controllerrevisions");
      return left.length === before.length;
    });
  });

  it("is in nobody's way when a whole namespace is deleted", async () => {
    await apply("granite", fixed(2));
    await ready("granite", 2);

    await kubectl("delete", "namespace", namespace, "--timeout=150s");

    await kubectl("create", "namespace", namespace);
  });

  it("converges after it was killed, without a second pod for any slot", async () => {
    await apply("granite", fixed(2, "load=2000"));
    await until("a pod is there", deadlineMs, async () => (await names("pods")).length > 0);
    await operator.kill();
    await kubectl("scale", "qis/granite", "--replicas=3");
    const seen = new Set(await names("pods"));

    operator = startOperator();

    await until("all three serve", deadlineMs, async () => {
      const pods = await names("pods");
      for (const pod of pods) seen.add(pod);
      assert.equal(new Set(pods.map((name) => name.at(-1))).size, pods.length);
      return (await readyReplicas("granite")) === 3;
    });
    assert.equal(seen.size, 3, [...seen].join(" "));
  });

  function startOperator(): SealedProcess {
    const flags = ["--engine-image=quire.example/engine:1", "--lease-namespace=kube-system"];
    const args = [
      quire,
      "operator",
      ...flags,
      "--host=127.0.0.1",
      `--port=${9000 + operatorCount}`,
    ];
    const env = { KUBECONFIG: cluster.insideKubeconfig };
    return cluster.spawn(`operator-${operatorCount++}`, process.execPath, args, { env });
  }

  async function kubectl(...args: readonly string[]): Promise<string> {
    return await cluster.kubectl(["-n", namespace, ...args]);
  }

  async function apply(name: string, spec: object): Promise<void> {
    const manifest = { apiVersion: "quire.dev/v1alpha1", kind: "InferenceService" };
    await cluster.apply(JSON.stringify({ ...manifest, metadata: { name, namespace }, spec }));
  }

  async function list(resources: string): Promise<readonly Item[]> {
    return JSON.parse(await kubectl("get", resources, "-o", "json")).items;
  }

  async function names(resources: string): Promise<string[]> {
    return (await list(resources)).map(({ metadata }) => metadata.name).toSorted();
  }

  async function service(name: string): Promise<ServiceView> {
    return JSON.parse(await kubectl("get", `qis/${name}`, "-o", "json"));
  }

  async function readyReplicas(name: string): Promise<number> {
    return (await service(name)).status?.readyReplicas ?? 0;
  }

  async function readyCondition(name: string) {
    const { status } = await service(name);
    const condition = status?.conditions?.find(({ type }) => type === "Ready");
    return condition ?? { type: "Ready", status: "", message: "" };
  }

  /** That many replicas serve, and no other pod is left. */
  async function ready(name: string, replicas: number): Promise<void> {
    await until(`${replicas} replicas of ${name} serve alone`, deadlineMs, async () => {
      if ((await readyReplicas(name)) !== replicas) return false;
      return (await names("pods")).length === replicas;
    });
  }

  async function versions(): Promise<Map<string, string>> {
    const items = await list(kinds);
    return new Map(
      items.map(({ kind, metadata }) => [`${kind}/${metadata.name}`, metadata.resourceVersion]),
    );
  }

  /** Until nothing has changed for a while. */
  async function quiet(): Promise<void> {
    let last = "";
    await until("nothing changes any more", deadlineMs, async () => {
      const before = last;
      last = JSON.stringify([...(await versions())]);
      if (last === before) return true;
      await delay(quietMs / 2);
      return false;
    });
  }
});

interface Item {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly resourceVersion: string };
}

interface ServiceView {
  readonly status?: {
    readonly readyReplicas?: number;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly message: string;
    }[];
  };
}

function fixed(replicas: number, words = ""): object {
  return {
    model: { uri: `file:///fake/${words || "usual"}` },
    scaling: { mode: "Static" },
    replicas,
  };
}

function gpus(count: number): object {
  return { resources: { gpu: { count } }, parallelism: { tensor: count } };
}
