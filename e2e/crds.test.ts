import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { parse, parseAllDocuments } from "yaml";
import { type Crd, schemaOf } from "../crds/schema.ts";
import { policyCases } from "../operator/validation/autoscaling-policy-rules-testing.ts";
import { serviceCases } from "../operator/validation/inference-service-rules-testing.ts";
import { fieldName } from "../operator/validation/problem.ts";
import { type RuleCase, validated } from "../operator/validation/rule-testing.ts";
import { Cluster, KubectlError } from "./cluster/cluster.ts";
import { installCrds } from "./cluster/crds.ts";
import { clusterMissing } from "./cluster/requirements.ts";

const skip = clusterMissing() ?? false;
const examples = fileURLToPath(new URL("../crds/examples", import.meta.url));
const groupPath = "/apis/quire.dev/v1alpha1";
const servicesPath = `${groupPath}/namespaces/default/inferenceservices`;
const kinds = [
  { kind: "InferenceService", path: servicesPath, cases: serviceCases },
  { kind: "AutoscalingPolicy", path: `${groupPath}/autoscalingpolicies`, cases: policyCases },
] as const;

describe("the CRDs on a real API server", { skip, timeout: 300_000 }, () => {
  let cluster: Cluster;

  before(async () => {
    cluster = await Cluster.start();
    cluster.printOnFailure();
    await installCrds(cluster);
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  for (const { kind, path, cases } of kinds) {
    for (const ruleCase of cases) {
      it(`${kind} ${ruleCase.rule} accepts what validation outside accepts, with the same defaults`, async () => {
        for (const spec of ruleCase.accepts) {
          const { status, body } = await send(path, kind, ruleCase, spec);

          assert.ok(status < 300, JSON.stringify({ spec, body }));
          const { resource } = validated(kind, spec, "granite", ruleCase.old);
          assert.deepEqual(field(body, "spec"), resource?.spec);
        }
      });

      it(`${kind} ${ruleCase.rule} rejects in the words of validation outside`, async () => {
        for (const [spec] of ruleCase.rejects) {
          const { status, body } = await send(path, kind, ruleCase, spec);

          assert.equal(status, 422, JSON.stringify({ spec, body }));
          const { problems } = validated(kind, spec, "granite", ruleCase.old);
          assert.deepEqual(
            causesOf(body),
            problems.map(({ path: at, message, remedy }) => ({
              field: fieldName(at),
              sentence: `${message}: ${remedy}`,
            })),
          );
        }
      });
    }
  }

  it("refuses names that cannot name pods, in the words of validation outside", async () => {
    for (const name of ["a".repeat(41), "8b", "a.b"]) {
      const manifest = aService({ name });

      const { status, body } = await cluster.request(
        "POST",
        `${servicesPath}?dryRun=All`,
        manifest,
      );

      assert.equal(status, 422);
      const { problems } = validated("InferenceService", manifest.spec, name);
      assert.deepEqual(
        causesOf(body).map(({ sentence }) => sentence),
        problems.map(({ message, remedy }) => `${message}: ${remedy}`),
      );
    }
  });

  it("refuses unknown fields", async () => {
    const text = JSON.stringify(
      aService({ spec: { model: { uri, revisoin: "main" }, replica: 2 } }),
    );

    await assert.rejects(cluster.apply(text), (error) => {
      assert.ok(error instanceof KubectlError);
      assert.match(error.stderr, /unknown field "spec\.model\.revisoin"/);
      assert.match(error.stderr, /unknown field "spec\.replica"/);
      return true;
    });
  });

  for (const file of readdirSync(examples)) {
    it(`takes the example ${file}, and changes nothing when it comes again`, async () => {
      const text = readFileSync(`${examples}/${file}`, "utf8");
      const objects = parseAllDocuments(text).length;

      const first = await cluster.kubectl(["apply", "-n", "default", "-f", `${examples}/${file}`]);
      const second = await cluster.kubectl(["apply", "-n", "default", "-f", `${examples}/${file}`]);

      assert.equal(first.match(/ (created|configured)\n/g)?.length, objects, first);
      assert.equal(second.match(/ unchanged\n/g)?.length, objects, second);
      await cluster.kubectl(["delete", "-n", "default", "-f", `${examples}/${file}`]);
    });
  }

  for (const file of ["inferenceservice.yaml", "autoscalingpolicy.yaml"]) {
    it(`explains every field of ${file}`, async () => {
      const crd = parse(readFileSync(new URL(`../crds/${file}`, import.meta.url), "utf8")) as Crd;
      const { description = "", properties = {} } = schemaOf(crd);

      const explained = squeezed(await cluster.kubectl(["explain", crd.spec.names.plural]));
      const fields = await cluster.kubectl(["explain", crd.spec.names.plural, "--recursive"]);

      assert.ok(explained.includes(squeezed(description)), explained);
      for (const name of Object.keys(properties["spec"]?.properties ?? {})) {
        assert.match(fields, new RegExp(`\\b${name}\\b`));
      }
    });
  }

  it("explains a field in the schema's words", async () => {
    const explained = await cluster.kubectl(["explain", "qis.spec.drain.timeout"]);

    assert.match(explained, /FIELD: timeout <string>/);
  });

  it("shows services in columns", async () => {
    await cluster.apply(JSON.stringify(aService({ name: "columns" })));
    const condition = {
      type: "Ready",
      status: "False",
      reason: "Loading",
      message: "1 of 2 replicas is loading",
      observedGeneration: 1,
      lastTransitionTime: new Date().toISOString(),
    };
    const status = {
      phase: "Pending",
      url: "http://columns.default.svc",
      conditions: [condition],
      display: { model: "owner/name", replicas: "1/2", kv: "41%", queue: "3" },
    };
    const path = `${servicesPath}/columns/status`;
    const type = "application/merge-patch+json";
    const answer = await cluster.request("PATCH", path, { status }, type);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));

    const narrow = await cluster.kubectl(["get", "qis", "columns"]);
    const wide = await cluster.kubectl(["get", "qis", "columns", "-o", "wide"]);

    assert.deepEqual(rows(narrow), [
      ["NAME", "MODEL", "READY", "REPLICAS", "KV", "QUEUE", "REASON", "AGE"],
      ["columns", "owner/name", "False", "1/2", "41%", "3", "Loading", rows(narrow)[1]?.at(-1)],
    ]);
    assert.deepEqual(rows(wide)[0]?.slice(7), ["AGE", "PHASE", "URL", "MESSAGE"]);
    assert.deepEqual(rows(wide)[1]?.slice(8), [
      "Pending",
      "http://columns.default.svc",
      "1 of 2 replicas is loading",
    ]);
  });

  it("keeps status out of an apply, and spec out of a status", async () => {
    await cluster.apply(JSON.stringify({ ...aService({ name: "apart" }), status: { phase: "X" } }));
    const type = "application/merge-patch+json";
    const changes = { spec: { suspend: true }, status: { phase: "Pending" } };

    const { body } = await cluster.request("PATCH", `${servicesPath}/apart/status`, changes, type);

    assert.deepEqual(field(field(body, "status"), "phase"), "Pending");
    assert.equal(field(field(body, "spec"), "suspend"), false);
    assert.equal(field(field(body, "metadata"), "generation"), 1);
  });

  it("shows policies in columns", async () => {
    const spec = { priority: 7, limits: { maxGPUs: 16 } };
    const apiVersion = "quire.dev/v1alpha1";
    const metadata = { name: "columns" };
    await cluster.apply(JSON.stringify({ apiVersion, kind: "AutoscalingPolicy", metadata, spec }));

    const [header, row] = rows(await cluster.kubectl(["get", "qap"]));

    assert.deepEqual(header, ["NAME", "PRIORITY", "SERVICES", "GPUS", "MAX GPUS", "AGE"]);
    assert.deepEqual(row?.slice(0, 2), ["columns", "7"]);
    assert.equal(row?.at(-2), "16");
  });

  it("lists both kinds by their category", async () => {
    const names = await cluster.kubectl(["get", "quire", "-o", "name"]);

    assert.match(names, /^inferenceservice\.quire\.dev\/columns$/m);
    assert.match(names, /^autoscalingpolicy\.quire\.dev\/columns$/m);
  });

  it("scales a static service through the subresource", async () => {
    const spec = { model: { uri }, scaling: { mode: "Static" }, replicas: 1 };
    await cluster.apply(JSON.stringify(aService({ name: "scaled", spec })));
    const status = { replicas: 1, selector: "quire.dev/service=scaled" };
    const type = "application/merge-patch+json";
    await cluster.request("PATCH", `${servicesPath}/scaled/status`, { status }, type);

    await cluster.kubectl(["scale", "qis/scaled", "--replicas=3"]);

    const { body } = await cluster.request("GET", `${servicesPath}/scaled/scale`);
    assert.deepEqual(field(body, "spec"), { replicas: 3 });
    assert.deepEqual(field(body, "status"), status);
  });

  it("refuses to scale a service that scales itself", async () => {
    await cluster.apply(JSON.stringify(aService({ name: "auto" })));

    await assert.rejects(
      cluster.kubectl(["scale", "qis/auto", "--replicas=3"]),
      /spec\.replicas is 3 but spec\.scaling\.mode is Auto/,
    );
  });

  /** Creates, or for transition rules changes, without keeping it. */
  async function send(path: string, kind: string, { old }: RuleCase, spec: unknown) {
    const name = old === undefined ? "granite" : "changing";
    const manifest = { apiVersion: "quire.dev/v1alpha1", kind, metadata: { name }, spec };
    const query = "dryRun=All&fieldValidation=Strict";
    if (old === undefined) return await cluster.request("POST", `${path}?${query}`, manifest);
    await cluster.request("POST", path, { ...manifest, spec: old });
    const before = await cluster.request("GET", `${path}/${name}`);
    const changed = { ...(before.body as object), spec };
    return await cluster.request("PUT", `${path}/${name}?${query}`, changed);
  }
});

const uri = "hf://owner/name";

function aService({ name = "granite", spec = { model: { uri } } as object }) {
  const apiVersion = "quire.dev/v1alpha1";
  return { apiVersion, kind: "InferenceService", metadata: { name }, spec };
}

function field(value: unknown, name: string): unknown {
  return (value as Record<string, unknown> | undefined)?.[name];
}

/** The places and sentences of a refusal; the server puts `Invalid value: …` before ours. */
function causesOf(body: unknown): { field: string; sentence: string }[] {
  const causes = field(field(body, "details"), "causes") as { field: string; message: string }[];
  return causes.map((cause) => ({
    field: cause.field,
    sentence: cause.message.replace(/^Invalid value: ("(?:[^"\\]|\\.)*": )?/, ""),
  }));
}

function rows(table: string): string[][] {
  return table
    .trimEnd()
    .split("\n")
    .map((line) => line.trimEnd().split(/ {2,}/));
}

function squeezed(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}
