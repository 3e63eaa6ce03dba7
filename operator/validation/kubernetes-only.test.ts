import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { kubernetesOnly } from "./kubernetes-only.ts";
import { fieldName } from "./problem.ts";
import { ManifestValidator } from "./validate.ts";

const uri = "hf://owner/name";

describe("kubernetesOnly", () => {
  const refused: readonly (readonly [string, unknown])[] = [
    ["spec.model.uri", { model: { uri: "pvc://models/granite" } }],
    ["spec.model.credentialsSecretRef", { model: { uri, credentialsSecretRef: { name: "hf" } } }],
    ["spec.resources.gpu.resourceName", { resources: { gpu: { resourceName: "nvidia.com/gpu" } } }],
    ["spec.resources.gpu.products", { resources: { gpu: { products: ["NVIDIA-H200"] } } }],
    ["spec.scaling.mode", { scaling: { mode: "External" } }],
    ["spec.service", { service: { port: 80 } }],
    ["spec.template", { template: {} }],
    ["spec.namespaceSelector", { namespaceSelector: {} }],
  ];
  for (const [field, spec] of refused) {
    it(`refuses ${field}`, () => {
      const problems = kubernetesOnly({ spec });

      assert.deepEqual(
        problems.map(({ path }) => fieldName(path)),
        [field],
      );
      assert.match(problems[0]?.message ?? "", /needs Kubernetes$/);
      assert.notEqual(problems[0]?.remedy, "");
    });
  }

  it("accepts what a machine can do, before and after defaults", async () => {
    const validator = await ManifestValidator.load();
    const spec = { model: { uri }, scaling: { mode: "Static" }, replicas: 2 };
    const manifest = {
      apiVersion: "quire.dev/v1alpha1",
      kind: "InferenceService",
      metadata: { name: "granite" },
      spec,
    };

    assert.deepEqual(kubernetesOnly(manifest), []);
    assert.deepEqual(validator.validate(manifest).problems, []);
  });

  it("says nothing of a document that is not an object", () => {
    assert.deepEqual(kubernetesOnly(null), []);
    assert.deepEqual(kubernetesOnly({ spec: "text" }), []);
  });
});
