import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { InferenceService } from "../api/inference-service.ts";
import { podTemplate } from "../reconcile/pod-template.ts";
import { aService } from "../reconcile/testing.ts";
import { disruptionBudgetManifest, serviceManifest, serviceUrl } from "./owned-objects.ts";
import { type Pod, podManifest } from "./pod-manifest.ts";

const metadata = { name: "granite", namespace: "team-a", uid: "u1", generation: 1 };

describe("podManifest", () => {
  it("names the pod, its owner and what it is found by", () => {
    const pod = manifest();
    const { hash } = podTemplate(aService());

    assert.deepEqual(pod.metadata, {
      name: "granite-0",
      namespace: "team-a",
      labels: {
        "quire.dev/managed": "true",
        "quire.dev/inferenceservice": "granite",
        "quire.dev/template-hash": hash,
        "quire.dev/ordinal": "3",
        "quire.dev/serving": "true",
      },
      annotations: {},
      ownerReferences: [
        {
          apiVersion: "quire.dev/v1alpha1",
          kind: "InferenceService",
          name: "granite",
          uid: "u1",
          controller: true,
        },
      ],
    });
  });

  it("runs the engine with its variables, and tells it where to leave its last words", () => {
    const engine = engineOf(manifest());
    const env = Object.fromEntries((engine.env ?? []).map(({ name, value }) => [name, value]));

    assert.deepEqual([engine.command, engine.args], [["quire"], ["serve"]]);
    assert.equal(env["QUIRE_MODEL"], "hf://owner/granite");
    assert.equal(env["QUIRE_TERMINATION_LOG"], engine.terminationMessagePath);
    const mounts = (engine.volumeMounts ?? []).map(({ mountPath }) => mountPath);
    assert.ok(mounts.includes(env["QUIRE_CACHE_DIR"] ?? ""), "a read-only root has no cache");
  });

  it("asks for GPUs as a limit and takes the image that computes on them", () => {
    const engine = engineOf(manifest({ resources: { gpu: { count: 2, resourceName: "x/gpu" } } }));

    assert.equal(engine.image, "quire:cuda");
    assert.deepEqual(engine.resources, { requests: {}, limits: { "x/gpu": "2" } });
  });

  it("asks for no GPU and takes the other image where the processor computes", () => {
    const limits = { cpu: "1500m", memory: "2Gi" };
    const engine = engineOf(
      manifest({
        resources: { gpu: { count: 0, resourceName: "x/gpu" }, limits, requests: { cpu: 1 } },
      }),
    );

    assert.equal(engine.image, "quire:cpu");
    assert.deepEqual(engine.resources, {
      requests: { cpu: "1000m" },
      limits: { cpu: "1500m", memory: "2147483648" },
    });
  });

  it("gives the pod its drain timeout to end, and the engine a little less", () => {
    assert.equal(manifest({ drain: { timeout: "2m" } }).spec?.terminationGracePeriodSeconds, 125);
  });

  it("wants a node with an accepted GPU, the first before the others", () => {
    const gpu = { count: 1, resourceName: "nvidia.com/gpu", products: ["H200", "H100"] };
    const affinity = manifest({ resources: { gpu } }).spec?.affinity?.nodeAffinity;

    assert.deepEqual(affinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms, [
      { matchExpressions: [among(["H200", "H100"])] },
    ]);
    assert.deepEqual(affinity?.preferredDuringSchedulingIgnoredDuringExecution, [
      { weight: 100, preference: { matchExpressions: [among(["H200"])] } },
    ]);
    assert.equal(manifest().spec?.affinity, undefined);
  });

  it("mounts a claim that holds the model, and takes variables from a Secret", () => {
    const model = { uri: "pvc://models/granite", credentialsSecretRef: { name: "hub" } };
    const pod = manifest({ model });

    const volume = pod.spec?.volumes?.find(({ name }) => name === "model");
    assert.deepEqual(volume?.persistentVolumeClaim, { claimName: "models", readOnly: true });
    const mount = engineOf(pod).volumeMounts?.find(({ name }) => name === "model");
    assert.deepEqual([mount?.mountPath, mount?.readOnly], ["/mnt/model", true]);
    assert.deepEqual(engineOf(pod).envFrom, [{ secretRef: { name: "hub" } }]);
    assert.equal(engineOf(manifest()).envFrom, undefined);
  });

  it("probes whether the engine lives and answers, without a deadline for loading", () => {
    const engine = engineOf(manifest());

    assert.equal(engine.startupProbe, undefined);
    assert.equal(engine.livenessProbe?.httpGet?.path, "/health/live");
    assert.equal(engine.readinessProbe?.httpGet?.path, "/health/ready");
    assert.equal(engine.readinessProbe?.httpGet?.port, engine.ports?.[0]?.name);
  });

  it("takes every right away that an engine does not need", () => {
    const pod = manifest();

    assert.equal(pod.spec?.automountServiceAccountToken, false);
    assert.equal(pod.spec?.securityContext?.runAsNonRoot, true);
    assert.equal(pod.spec?.securityContext?.seccompProfile?.type, "RuntimeDefault");
    assert.deepEqual(engineOf(pod).securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
  });

  it("lays the user's fields over, but not over what it is found by", () => {
    const pod = manifest({
      template: {
        metadata: {
          labels: { team: "a", "quire.dev/serving": "no" },
          annotations: { note: "x" },
        },
        spec: {
          priorityClassName: "high",
          containers: [{ name: "engine", env: [{ name: "EXTRA", value: "1" }] }],
        },
      },
    });

    assert.equal(pod.metadata.labels?.["team"], "a");
    assert.equal(pod.metadata.labels?.["quire.dev/serving"], "true");
    assert.deepEqual(pod.metadata.annotations, { note: "x" });
    assert.equal(pod.spec?.priorityClassName, "high");
    assert.equal(pod.spec?.containers.length, 1);
    assert.ok(engineOf(pod).env?.some(({ name }) => name === "EXTRA"));
    assert.ok(engineOf(pod).env?.some(({ name }) => name === "QUIRE_MODEL"));
  });
});

describe("objects around the pods", () => {
  it("sends requests to pods that may serve, on the port that the spec names", () => {
    const { spec } = serviceManifest(service({ service: { port: 8080 } }));

    assert.deepEqual(spec, {
      selector: { "quire.dev/inferenceservice": "granite", "quire.dev/serving": "true" },
      ports: [{ name: "http", port: 8080, targetPort: "http", protocol: "TCP" }],
    });
  });

  it("leaves a port out of the URL that needs none", () => {
    assert.equal(serviceUrl(service()), "http://granite.team-a.svc");
    assert.equal(serviceUrl(service({ service: { port: 81 } })), "http://granite.team-a.svc:81");
  });

  it("lets a node drain take one replica, and a single one always", () => {
    const minAvailable = (replicas: number) =>
      (disruptionBudgetManifest(service(), replicas)["spec"] as { minAvailable: number })
        .minAvailable;

    assert.deepEqual([0, 1, 2, 5].map(minAvailable), [0, 0, 1, 4]);
  });
});

type Spec = Partial<InferenceService["spec"]>;

function service(spec: Spec = {}): InferenceService {
  return aService(spec, { metadata });
}

function manifest(spec: Spec = {}): Pod {
  const template = podTemplate(service(spec));
  const images = { cuda: "quire:cuda", cpu: "quire:cpu" };
  return podManifest(service(spec), { name: "granite-0", ordinal: 3, template }, images);
}

function engineOf(pod: Pod) {
  const container = pod.spec?.containers[0];
  assert.ok(container !== undefined);
  return container;
}

function among(values: readonly string[]) {
  return { key: "nvidia.com/gpu.product", operator: "In", values };
}
