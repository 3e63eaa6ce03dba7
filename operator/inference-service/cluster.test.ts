import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import type { InferenceService } from "../api/inference-service.ts";
import { podTemplate } from "../reconcile/pod-template.ts";
import { aService } from "../reconcile/testing.ts";
import { Applier } from "../runtime/apply.ts";
import { EventRecorder } from "../runtime/events.ts";
import { FakeApiServer } from "../runtime/fake-api-server.ts";
import { Transport } from "../runtime/transport.ts";
import { KubernetesCluster } from "./cluster.ts";
import { World } from "./world.ts";

const services = "/apis/quire.dev/v1alpha1/namespaces/team-a/inferenceservices";
const pods = "/api/v1/namespaces/team-a/pods";

/** The world is never watched here: it knows what the cluster itself learnt from its writes. */
describe("KubernetesCluster", () => {
  let server: FakeApiServer;
  let world: World;
  let cluster: KubernetesCluster;
  let lookedAgain: { readonly key: string; readonly delayMs: number }[];
  let service: InferenceService;
  beforeEach(async () => {
    server = await new FakeApiServer().listen();
    lookedAgain = [];
    const transport = new Transport({ credentials: server });
    const ignore = () => undefined;
    world = new World({ transport, namespace: undefined, onError: ignore, onList: ignore });
    cluster = new KubernetesCluster({
      transport,
      world,
      applier: new Applier({ transport, fieldManager: "t", hashAnnotation: "t/hash" }),
      events: new EventRecorder({
        transport,
        controller: "t",
        instance: "t",
        now: () => new Date(),
        onError: ignore,
      }),
      scaling: { decisionOf: ignore, loadOf: ignore, signalsOf: () => ({}) },
      images: { cuda: "quire:cuda", cpu: "quire:cpu" },
      lookAgain: (key, delayMs) => lookedAgain.push({ key, delayMs }),
    });
    const metadata = { name: "granite", namespace: "team-a" };
    server.put(services, { ...aService({}, { metadata }), metadata });
    service = server.get(`${services}/granite`) as unknown as InferenceService;
    world.services.remember(service);
  });
  afterEach(() => server.close());

  it("takes a pod that is there already for a success", async () => {
    await cluster.createPod(service, newPod());
    await cluster.createPod(service, newPod());

    assert.equal(server.objects().filter(({ kind }) => kind === "Pod").length, 1);
  });

  it("sees what it wrote before any watch tells of it", async () => {
    await cluster.createPod(service, newPod());
    await cluster.report(service, { phase: "Pending" }, []);

    const { pods: observed } = await cluster.observe(service);
    assert.deepEqual(
      observed.map(({ name }) => name),
      ["granite-a-0"],
    );
    assert.deepEqual((await cluster.getService("team-a/granite"))?.status, { phase: "Pending" });
  });

  it("does not see pods of an earlier service of the same name", async () => {
    await cluster.createPod(service, newPod());
    const later = { ...service, metadata: { ...service.metadata, uid: "another" } };

    assert.deepEqual((await cluster.observe(later)).pods, []);
  });

  it("drains and deletes a pod once, and none that is gone", async () => {
    await cluster.createPod(service, newPod());
    const count = () => server.requests.length;
    await cluster.drainPod(service, "granite-a-0");
    const drained = count();
    await cluster.drainPod(service, "granite-a-0");
    assert.equal(count(), drained, "it was told already");
    assert.equal((await cluster.observe(service)).pods[0]?.ready, false);

    server.remove(`${pods}/granite-a-0`);
    await cluster.deletePod(service, "granite-a-0");
    await cluster.deletePod(service, "unknown");
  });

  it("does not touch a pod that came to have the name of the one it knows", async () => {
    await cluster.createPod(service, newPod());
    server.remove(`${pods}/granite-a-0`);
    server.put(pods, { metadata: { name: "granite-a-0", namespace: "team-a" }, kind: "Pod" });

    await assert.rejects(cluster.drainPod(service, "granite-a-0"), { code: 409 });
  });

  it("keeps the finalizers of others", async () => {
    const metadata = { ...service.metadata, finalizers: ["other/one", "quire.dev/drain"] };
    const held = server.put(services, { ...service, metadata }) as unknown as InferenceService;

    await cluster.release(held);

    assert.deepEqual(server.get(`${services}/granite`)?.metadata["finalizers"], ["other/one"]);
  });

  it("asks to look again for a status that may wait", async () => {
    const status = {
      phase: "Serving",
      display: { model: "m", replicas: "1/1", kv: "1%", queue: "0" },
    } as const;
    await cluster.report(service, status, []);
    const known = await cluster.getService("team-a/granite");
    assert.ok(known !== undefined);

    const display = { ...status.display, kv: "2%" };
    await cluster.report(known, { ...status, display }, []);

    assert.equal(lookedAgain[0]?.key, "team-a/granite");
    assert.ok((lookedAgain[0]?.delayMs ?? 0) > 9_000);
    assert.deepEqual(server.get(`${services}/granite`)?.["status"], status);
  });

  const refusals = [
    [403, "exceeded quota: x", "QuotaExceeded"],
    [403, "not allowed", "Forbidden"],
    [422, "spec.nodeName: invalid", "InvalidSpec"],
  ] as const;
  for (const [status, message, reason] of refusals) {
    it(`calls ${status} "${message}" ${reason}`, async () => {
      server.faults.push(() => ({ status, body: { message } }));

      await assert.rejects(cluster.createPod(service, newPod()), { name: "TerminalError", reason });
    });
  }

  it("leaves a fault of the server to be tried again", async () => {
    server.faults.push(() => ({ status: 500 }));

    await assert.rejects(cluster.createPod(service, newPod()), { name: "ApiError", code: 500 });
  });

  function newPod() {
    return { name: "granite-a-0", ordinal: 0, template: podTemplate(service) };
  }
});
