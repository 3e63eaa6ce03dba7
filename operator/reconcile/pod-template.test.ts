import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { InferenceService } from "../api/inference-service.ts";
import { podName, podTemplate, servedNames } from "./pod-template.ts";
import { aService } from "./testing.ts";

type Spec = InferenceService["spec"];

const uri = "hf://owner/granite";

describe("podTemplate", () => {
  it("says no more than the spec does", () => {
    const template = podTemplate(aService());

    assert.deepEqual(
      { ...template, hash: "" },
      {
        hash: "",
        args: ["serve"],
        env: [
          { name: "QUIRE_BACKEND", value: "cuda" },
          { name: "QUIRE_DRAIN_TIMEOUT_SECONDS", value: "300" },
          { name: "QUIRE_MODEL", value: uri },
          { name: "QUIRE_SERVED_MODEL_NAME", value: "granite" },
        ],
        resources: {
          gpuCount: 1,
          gpuResourceName: "nvidia.com/gpu",
          gpuProducts: [],
          requests: {},
          limits: {},
        },
        drainTimeoutMs: 300_000,
      },
    );
  });

  it("hands every engine setting on", () => {
    const env = variables({
      engine: {
        dtype: "bfloat16",
        maxModelLen: 4_096,
        maxSeqs: 8,
        maxBatchedTokens: 512,
        targetItlMs: 0,
        prefixCaching: false,
        blockSize: 16,
      },
      model: { uri, revision: "v1", checksum: "sha256:00" },
      resources: { gpu: { count: 2, resourceName: "nvidia.com/gpu" } },
      parallelism: { tensor: 2 },
    });

    assert.deepEqual(env, {
      QUIRE_BACKEND: "cuda",
      QUIRE_BLOCK_SIZE: "16",
      QUIRE_CHECKSUM: "sha256:00",
      QUIRE_DRAIN_TIMEOUT_SECONDS: "300",
      QUIRE_DTYPE: "bfloat16",
      QUIRE_ENABLE_PREFIX_CACHING: "false",
      QUIRE_MAX_MODEL_LEN: "4096",
      QUIRE_MAX_NUM_BATCHED_TOKENS: "512",
      QUIRE_MAX_NUM_SEQS: "8",
      QUIRE_MODEL: uri,
      QUIRE_REVISION: "v1",
      QUIRE_SERVED_MODEL_NAME: "granite",
      QUIRE_TARGET_ITL_MS: "0",
      QUIRE_TENSOR_PARALLEL_SIZE: "2",
    });
  });

  const cpuOnly = { gpu: { count: 0, resourceName: "nvidia.com/gpu" } };
  const cases: readonly (readonly [string, Partial<Spec>, string, string | undefined])[] = [
    ["computes on the processor without GPUs", { resources: cpuOnly }, "QUIRE_BACKEND", "cpu"],
    ["leaves threads open", { resources: cpuOnly }, "QUIRE_THREADS", undefined],
    [
      "takes threads from the spec",
      { resources: { ...cpuOnly, limits: { cpu: "8" } }, engine: { threads: 2 } },
      "QUIRE_THREADS",
      "2",
    ],
    [
      "takes threads from the limit",
      { resources: { ...cpuOnly, limits: { cpu: "2500m" } } },
      "QUIRE_THREADS",
      "2",
    ],
    [
      "takes one thread for less than a core",
      { resources: { ...cpuOnly, limits: { cpu: "100m" } } },
      "QUIRE_THREADS",
      "1",
    ],
    [
      "gives a GPU engine no threads",
      { resources: { gpu: { count: 1, resourceName: "x" }, limits: { cpu: 8 } } },
      "QUIRE_THREADS",
      undefined,
    ],
    [
      "turns a file URI into its path",
      { model: { uri: "file:///models/m.gguf" } },
      "QUIRE_MODEL",
      "/models/m.gguf",
    ],
    [
      "turns a claim's path into where it is mounted",
      { model: { uri: "pvc://models/granite/8b" } },
      "QUIRE_MODEL",
      "/mnt/model/granite/8b",
    ],
    [
      "gives the engine at least the time that the pod has",
      { drain: { timeout: "1500ms" } },
      "QUIRE_DRAIN_TIMEOUT_SECONDS",
      "2",
    ],
    [
      "lists the model's names",
      { model: { uri, name: "granite-8b", aliases: ["default"] } },
      "QUIRE_SERVED_MODEL_NAME",
      "granite-8b,default",
    ],
  ];
  for (const [title, spec, name, value] of cases) {
    it(title, () => assert.equal(variables(spec)[name], value));
  }

  it("reads quantities", () => {
    const resources = {
      gpu: { count: 1, resourceName: "nvidia.com/gpu", products: ["NVIDIA-H200"] },
      requests: { cpu: "1500m", memory: "1Gi" },
      limits: { cpu: 2, memory: "2G" },
    };

    assert.deepEqual(podTemplate(aService({ resources })).resources, {
      gpuCount: 1,
      gpuResourceName: "nvidia.com/gpu",
      gpuProducts: ["NVIDIA-H200"],
      requests: { cpuMillis: 1_500, memoryBytes: 1_073_741_824 },
      limits: { cpuMillis: 2_000, memoryBytes: 2_000_000_000 },
    });
  });

  it("names claim, Secret and overlay for Kubernetes", () => {
    const overlay = { spec: { nodeSelector: { zone: "a" } } };
    const template = podTemplate(
      aService({
        model: { uri: "pvc://models/granite", credentialsSecretRef: { name: "hf" } },
        template: overlay,
      }),
    );

    assert.equal(template.modelClaimName, "models");
    assert.equal(template.credentialsSecretName, "hf");
    assert.deepEqual(template.overlay, overlay);
  });
});

describe("the template hash", () => {
  const hash = (spec: Partial<Spec>) => podTemplate(aService(spec)).hash;

  it("has ten hexadecimal digits", () => assert.match(hash({}), /^[0-9a-f]{10}$/));

  it("is the same on every machine and in every version: another value would move every pod", () => {
    assert.equal(hash({}), "48df6444bf");
  });

  const moving: readonly (readonly [string, Partial<Spec>])[] = [
    ["model", { model: { uri: "hf://owner/other" } }],
    ["engine", { engine: { maxSeqs: 4 } }],
    ["resources", { resources: { gpu: { count: 0, resourceName: "nvidia.com/gpu" } } }],
    [
      "products",
      { resources: { gpu: { count: 1, resourceName: "nvidia.com/gpu", products: ["A"] } } },
    ],
    ["drain", { drain: { timeout: "5s" } }],
    ["template", { template: { metadata: { labels: { team: "a" } } } }],
  ];
  for (const [what, spec] of moving) {
    it(`changes with the ${what}`, () => assert.notEqual(hash(spec), hash({})));
  }

  const still: readonly (readonly [string, Partial<Spec>])[] = [
    ["replicas", { replicas: 3, scaling: { mode: "Static" } }],
    ["scaling", { scaling: { mode: "Auto", maxReplicas: 9 } }],
    ["rollout", { rollout: { strategy: "Recreate", maxSurge: 2 } }],
    ["suspend", { suspend: true }],
    ["service", { service: { port: 81 } }],
    ["an empty engine", { engine: {} }],
  ];
  for (const [what, spec] of still) {
    it(`does not change with ${what}`, () => assert.equal(hash(spec), hash({})));
  }

  it("does not depend on the order of keys", () => {
    const template = (labels: Record<string, string>) =>
      hash({ template: { metadata: { labels } } });

    assert.equal(template({ a: "1", b: "2" }), template({ b: "2", a: "1" }));
  });
});

describe("podName", () => {
  it("fits a DNS label with the longest service name", () => {
    assert.equal(podName("granite", "0123456789", 2), "granite-0123456789-2");
    assert.ok(podName("a".repeat(40), "0123456789", 999).length <= 63);
  });
});

describe("servedNames", () => {
  it("begins with the service's name where the model has none", () => {
    assert.deepEqual(servedNames("granite", { model: { uri, aliases: ["a"] } }), ["granite", "a"]);
  });
});

function variables(spec: Partial<Spec>): Record<string, string> {
  return Object.fromEntries(
    podTemplate(aService(spec)).env.map(({ name, value }) => [name, value]),
  );
}
