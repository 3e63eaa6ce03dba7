import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { ManifestValidator } from "../validation/validate.ts";
import { readManifest } from "./manifest.ts";

let validator: ManifestValidator;
before(async () => {
  validator = await ManifestValidator.load();
});

describe("readManifest", () => {
  it("reads several documents, with defaults, and skips empty ones", () => {
    const { resources, problems } = read(
      `---\n${service("one")}---\n# nothing\n---\n${service("two")}`,
    );

    assert.deepEqual(problems, []);
    assert.deepEqual(
      resources.map(({ metadata }) => metadata.name),
      ["one", "two"],
    );
    assert.deepEqual(resources[0]?.kind === "InferenceService" && resources[0].spec.drain, {
      timeout: "300s",
    });
  });

  it("tells file and line of every mistake at once, in every document", () => {
    const text = `${service("one")}  suspend: maybe\n---\n${service("two")}  scaling:\n    mode: Sometimes\n`;

    const { resources, problems } = read(text);

    assert.deepEqual(
      resources.map(({ metadata }) => metadata.name),
      [],
    );
    assert.equal(problems.length, 2, problems.join("\n"));
    assert.match(problems[0] ?? "", /^m\.yaml:7: spec\.suspend is "maybe", not true or false: /);
    assert.match(problems[1] ?? "", /^m\.yaml:16: spec\.scaling\.mode is "Sometimes"/);
  });

  it("tells the line of a mistake in a list, and that an alias has no anchor", () => {
    const text = `apiVersion: quire.dev/v1alpha1
kind: InferenceService
metadata: { name: one }
spec:
  model: &model
    uri: "file:///m"
    aliases:
      - fine
      - "not fine"
`;
    const aliased = `x: 1\n---\n${text.replace("&model", "*model")}`;

    assert.match(read(text).problems.join(), /^m\.yaml:9: spec\.model\.aliases has "not fine"/);
    assert.match(read(aliased).problems.join("\n"), /m\.yaml:\d+: .*correct the YAML/);
  });

  it("tells where the YAML itself is broken", () => {
    const { problems } = read(`${service("one")}  engine: {\n`);

    assert.ok(problems.length >= 1);
    assert.match(problems[0] ?? "", /^m\.yaml:\d+: .*: correct the YAML$/);
    assert.doesNotMatch(problems[0] ?? "", /\n/);
  });

  it("refuses what only Kubernetes can do, with what to do instead", () => {
    const cases: [string, RegExp][] = [
      [
        service("one").replace("file:///m", "pvc://claim/m"),
        /:5: spec\.model\.uri .*: write file:/,
      ],
      [`${service("one")}  template: {}\n`, /:7: spec\.template needs Kubernetes: remove it/],
      [
        `${service("one")}  scaling: { mode: External }\n  replicas: 1\n`,
        /:7: spec\.scaling\.mode/,
      ],
    ];
    for (const [text, expected] of cases) assert.match(read(text).problems.join("\n"), expected);
  });

  it("refuses two objects of one name and two services with one model name", () => {
    const alias = service("two").replace('uri: "file:///m"', 'uri: "file:///m", aliases: [one]');

    assert.match(
      read(`${service("one")}---\n${service("one")}`).problems[0] ?? "",
      /^m\.yaml:8: InferenceService one is taken since line 1: rename one/,
    );
    assert.deepEqual(read(`${service("one")}---\n${alias}`).problems, [
      'm.yaml:8: the model name "one" is taken since line 1: give one of the models another spec.model.name or alias',
    ]);
  });

  it("refuses to delete everything because a file is empty", () => {
    for (const text of ["", "# only a comment\n", "---\n---\n"]) {
      assert.match(read(text).problems.join(), /^m\.yaml:1: the manifest asks for nothing: write/);
    }
  });

  it("names an unknown kind and the nearest one", () => {
    const { problems } = read(service("one").replace("InferenceService", "InferenceServise"));

    assert.deepEqual(problems, [
      'm.yaml:2: kind is "InferenceServise": did you mean "InferenceService"?',
    ]);
  });

  it("refuses what is too large to be a manifest", () => {
    assert.match(read("#".repeat(1_100_000)).problems.join(), /1100000 characters.*: divide it$/);
    const many = Array.from({ length: 101 }, (_, i) => service(`s${i}`)).join("---\n");
    assert.match(read(many).problems.join(), /101 documents, more than 100: divide it/);
    const aliases = `a: &a [x]\nb: [${"*a, ".repeat(200)}]\n`;
    assert.match(read(`${service("one")}---\n${aliases}`).problems.join(), /apiVersion|alias/);
  });

  it("compares with the object as it was", () => {
    const text = `${service("one")}  scaling: { mode: Static }\n`;
    const old = read(service("one")).resources[0];

    const { problems } = readManifest("m.yaml", text, validator, (kind, name) =>
      kind === "InferenceService" && name === "one" ? old : undefined,
    );

    assert.match(
      problems.join(),
      /spec\.scaling\.mode goes from Auto to Static without spec\.replicas/,
    );
  });
});

function read(text: string) {
  return readManifest("m.yaml", text, validator, () => undefined);
}

function service(name: string): string {
  return `apiVersion: quire.dev/v1alpha1
kind: InferenceService
metadata: { name: ${name} }
spec:
  model: { uri: "file:///m" }
  resources: { gpu: { count: 0 } }
`;
}
