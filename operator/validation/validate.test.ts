import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { parseAllDocuments } from "yaml";
import { fieldName } from "./problem.ts";
import { ManifestValidator, type Resource } from "./validate.ts";

const validator = await ManifestValidator.load();

describe("a manifest of six lines", () => {
  it("is complete: everything else has a default", () => {
    const { resource } = validator.validate(aService({ model: { uri: "hf://owner/name" } }));

    assert.deepEqual(resource?.spec, {
      model: { uri: "hf://owner/name" },
      resources: { gpu: { count: 1, resourceName: "nvidia.com/gpu" } },
      parallelism: { tensor: 1 },
      suspend: false,
      scaling: { mode: "Auto" },
      rollout: { strategy: "Auto", maxSurge: 1 },
      drain: { timeout: "300s" },
      service: { port: 80 },
    });
  });

  it("keeps what it says beside the defaults", () => {
    const spec = { model: { uri: "hf://owner/name" }, resources: { gpu: { count: 0 } } };

    const { resource } = validator.validate(aService(spec));

    assert.deepEqual(specOf(resource)["resources"], {
      gpu: { count: 0, resourceName: "nvidia.com/gpu" },
    });
  });

  it("is not changed itself", () => {
    const manifest = aService({ model: { uri: "hf://owner/name" } });
    const before = structuredClone(manifest);

    validator.validate(manifest);

    assert.deepEqual(manifest, before);
  });
});

describe("the examples", () => {
  for (const name of ["quickstart", "autoscaling"]) {
    it(`${name}.yaml is valid`, () => {
      const url = new URL(`../../crds/examples/${name}.yaml`, import.meta.url);
      const documents = parseAllDocuments(readFileSync(url, "utf8"));
      assert.ok(documents.length > 0);
      for (const document of documents) {
        assert.deepEqual(validator.validate(document.toJS()).problems, []);
      }
    });
  }
});

describe("a mistake against the schema", () => {
  const uri = "hf://owner/name";
  const cases: readonly (readonly [
    title: string,
    spec: unknown,
    field: string,
    message: RegExp,
    remedy: RegExp,
  ])[] = [
    [
      "suggests the field that was meant",
      { model: { uri }, replica: 2 },
      "spec.replica",
      /^spec\.replica is not a field$/,
      /^did you mean "replicas"\?$/,
    ],
    [
      "finds the place of a field that stands elsewhere",
      { model: { uri }, maxReplicas: 3 },
      "spec.maxReplicas",
      /is not a field$/,
      /^write it as spec\.scaling\.maxReplicas$/,
    ],
    [
      "lists the fields where nothing is similar",
      { model: { uri, zzz: 1 } },
      "spec.model.zzz",
      /is not a field$/,
      /^remove it, or use one of uri, revision, name,/,
    ],
    [
      "names a missing field and what it is for",
      { model: {} },
      "spec.model",
      /^spec\.model\.uri is missing$/,
      /^add it\. Where the model comes from/,
    ],
    [
      "quotes text that was read as a number",
      { model: { uri }, scaling: { targets: { kvCacheUtilization: 0.8 } } },
      "spec.scaling.targets.kvCacheUtilization",
      /is 0\.8, not text$/,
      /quotes/,
    ],
    [
      "says what kind of value belongs there",
      { model: { uri }, suspend: "yes" },
      "spec.suspend",
      /is "yes", not true or false$/,
      /./,
    ],
    [
      "refuses text where a block belongs",
      { model: { uri }, engine: "fast" },
      "spec.engine",
      /is "fast", not a mapping$/,
      /Settings of the engine/,
    ],
    [
      "suggests the value that was meant",
      { model: { uri }, rollout: { strategy: "recreate" } },
      "spec.rollout.strategy",
      /"recreate", which is not one of its values$/,
      /^did you mean "Recreate"\?$/,
    ],
    [
      "lists the values where none is similar",
      { model: { uri }, engine: { blockSize: 8192 } },
      "spec.engine.blockSize",
      /8192/,
      /^use one of 16, 32, 64$/,
    ],
    [
      "gives the range above it",
      { model: { uri }, resources: { gpu: { count: 9 } } },
      "spec.resources.gpu.count",
      /is 9, above 8$/,
      /^write a whole number from 0 to 8\./,
    ],
    [
      "gives the range below it",
      { model: { uri }, scaling: { minReplicas: 0 } },
      "spec.scaling.minReplicas",
      /is 0, below 1$/,
      /from 1 to 1000/,
    ],
    [
      "refuses a fraction of a replica",
      { model: { uri }, scaling: { minReplicas: 1.5 } },
      "spec.scaling.minReplicas",
      /is 1\.5, not a whole number$/,
      /from 1 to 1000/,
    ],
    [
      "explains a quantity",
      { model: { uri }, resources: { limits: { memory: "32 GB" } } },
      "spec.resources.limits.memory",
      /"32 GB", which is not of its form$/,
      /such as `32Gi`/,
    ],
    [
      "refuses a list as a quantity",
      { model: { uri }, resources: { limits: { cpu: [] } } },
      "spec.resources.limits.cpu",
      /is \[\], not a number or text$/,
      /./,
    ],
    [
      "finds a repeated item of a set",
      { model: { uri, aliases: ["a", "b", "a"] } },
      "spec.model.aliases",
      /items 0 and 2 are the same$/,
      /./,
    ],
    [
      "shortens a long value",
      { model: { uri: `file:///${"x".repeat(2_000)}` } },
      "spec.model.uri",
      /^.{80,140}… *, not within its limit of 1024$/,
      /./,
    ],
  ];
  for (const [title, spec, field, message, remedy] of cases) {
    it(title, () => {
      const { problems } = validator.validate(aService(spec));

      assert.equal(problems.length, 1, JSON.stringify(problems));
      assert.equal(fieldName(problems[0]?.path ?? []), field);
      assert.match(problems[0]?.message ?? "", message);
      assert.match(problems[0]?.remedy ?? "", remedy);
    });
  }

  it("does not hide another", () => {
    const { problems } = validator.validate(aService({ modle: {}, suspend: 1 }));

    assert.deepEqual(
      problems.map(({ message }) => message.replace(/ (is|missing).*/, "")).toSorted(),
      ["spec.model", "spec.modle", "spec.suspend"],
    );
  });

  it("keeps fields of a pod that the schema does not know", () => {
    const template = { spec: { nodeSelector: { zone: "a" } } };
    const { resource } = validator.validate(aService({ model: { uri }, template }));

    assert.deepEqual(specOf(resource)["template"], template);
  });
});

describe("metadata", () => {
  it("has labels that are text", () => {
    const { problems } = validator.validate({
      ...aService({ model: { uri: "hf://owner/name" } }),
      metadata: { name: "granite", labels: { tier: 1 } },
    });

    assert.deepEqual(
      problems.map(({ path }) => path),
      [["metadata", "labels", "tier"]],
    );
  });

  it("must name the object", () => {
    const manifest = { ...aService({ model: { uri: "hf://owner/name" } }), metadata: {} };

    assert.match(validator.validate(manifest).problems[0]?.message ?? "", /metadata\.name is miss/);
  });
});

describe("a document", () => {
  const cases: readonly (readonly [unknown, string, RegExp])[] = [
    [null, "the document is not a mapping", /^begin with/],
    [[], "the document is not a mapping", /^begin with/],
    [{ kind: "InferenceService" }, "apiVersion is missing", /^write quire\.dev\/v1alpha1$/],
    [{ apiVersion: "v1", kind: "Pod" }, 'apiVersion is "v1"', /^write quire\.dev/],
    [
      { apiVersion: "quire.dev/v1alpha1", kind: "InferenceServce" },
      'kind is "InferenceServce"',
      /^did you mean "InferenceService"\?$/,
    ],
    [
      { apiVersion: "quire.dev/v1alpha1", kind: "Pod" },
      'kind is "Pod"',
      /^use InferenceService or AutoscalingPolicy$/,
    ],
    [{ apiVersion: "quire.dev/v1alpha1" }, "kind is missing", /^use InferenceService or/],
  ];
  for (const [manifest, message, remedy] of cases) {
    it(`such as ${JSON.stringify(manifest)} is refused`, () => {
      const { problems } = validator.validate(manifest);

      assert.equal(problems[0]?.message, message);
      assert.match(problems[0]?.remedy ?? "", remedy);
    });
  }

  it("may carry a status, which is not looked at", () => {
    const manifest = { ...aService({ model: { uri: "hf://owner/name" } }), status: { junk: 1 } };

    const { resource, problems } = validator.validate(manifest);

    assert.deepEqual(problems, []);
    assert.equal(resource?.status, undefined);
  });
});

function specOf(resource: Resource | undefined): Record<string, unknown> {
  return { ...resource?.spec };
}

function aService(spec: unknown): Record<string, unknown> {
  const metadata = { name: "granite" };
  return { apiVersion: "quire.dev/v1alpha1", kind: "InferenceService", metadata, spec };
}
