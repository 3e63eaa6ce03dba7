import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { ClientRequest, IncomingMessage } from "node:http";
import { request } from "node:https";
import { after, before, describe, it } from "node:test";
import { Cluster, KubectlError } from "./cluster.ts";
import { clusterMissing } from "./requirements.ts";

const podsPath = "/api/v1/namespaces/default/pods";

describe("Cluster", { skip: clusterMissing() ?? false, timeout: 300_000 }, () => {
  let cluster: Cluster;

  before(async () => {
    cluster = await Cluster.start();
    cluster.printOnFailure();
    await cluster.addNodes({ count: 1 });
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  it("gives kubectl's own words for what it refuses", async () => {
    await assert.rejects(cluster.kubectl(["get", "pod/nobody"]), (error) => {
      assert.ok(error instanceof KubectlError);
      assert.equal(error.stderr, 'Error from server (NotFound): pods "nobody" not found');
      return true;
    });
  });

  it("keeps its objects and its nodes over a restart of the API server and of etcd", async () => {
    await cluster.kubectl(["create", "configmap", "kept"]);

    await cluster.restart("kube-apiserver");
    await cluster.restart("etcd");

    await cluster.kubectl(["get", "configmap/kept"]);
    await cluster.kubectl(["run", "pod", "--image=quire.example/engine:1"]);
    await cluster.kubectl(["wait", "--for=condition=Ready", "pod/pod", "--timeout=90s"]);
  });

  it("cuts the connections that are open, and lets in new ones", async () => {
    const { response } = await watch();
    const ended = once(response, "error");

    cluster.door.cut();

    const [error] = await ended;
    assert.equal(error.code, "ECONNRESET");
    assert.equal((await cluster.request("GET", podsPath)).status, 200);
  });

  it("carries nothing while it is stalled, and goes on after", async () => {
    const { call, response } = await watch();
    let events = 0;
    response.on("data", () => events++);
    response.on("error", () => undefined);

    await cluster.door.stall();
    await cluster.kubectl(["create", "configmap", "unseen"]);
    await assert.rejects(cluster.request("GET", podsPath), /no answer/);
    assert.equal(events, 0);
    await cluster.door.resume();

    await once(response, "data");
    assert.equal((await cluster.request("GET", podsPath)).status, 200);
    call.destroy();
  });

  it("reports objects, events and logs", async () => {
    const report = await cluster.report();

    for (const part of [
      /--- kubectl get events/,
      /--- kube-scheduler\.log/,
      /default +pod\/pod +1\/1/,
    ]) {
      assert.match(report, part);
    }
  });

  /** A watch of new ConfigMaps from outside. */
  async function watch(): Promise<{ call: ClientRequest; response: IncomingMessage }> {
    const { body } = await cluster.request("GET", "/api/v1/namespaces/default/configmaps");
    const version = (body as { metadata: { resourceVersion: string } }).metadata.resourceVersion;
    const query = `watch=1&resourceVersion=${version}`;
    const call = request(`${cluster.url}/api/v1/namespaces/default/configmaps?${query}`, {
      ca: readFileSync(cluster.caFile),
      headers: { authorization: `Bearer ${cluster.token}` },
    });
    call.on("error", () => undefined);
    call.end();
    const [response] = await once(call, "response");
    return { call, response };
  }
});
