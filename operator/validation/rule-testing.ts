/** Tables of what CEL rules accept and reject, and how they are run. For tests alone. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { parse } from "yaml";
import { type Crd, type Schema, schemaOf } from "../../crds/schema.ts";
import { fieldName } from "./problem.ts";
import { ManifestValidator, type Validation } from "./validate.ts";

export interface RuleCase {
  /** The rule's place, then its number there. */
  readonly rule: string;
  readonly accepts: readonly unknown[];
  readonly rejects: readonly (readonly [spec: unknown, field: string, message: RegExp])[];
  /** The spec before, for transition rules. */
  readonly old?: unknown;
}

const fractions = {
  good: ["0.80", "1", "1.0", "0.05"],
  bad: ["0", "0.0", "1.1", "80%", ".5", "-1"],
};
const badTimes = ["0s", "5", "2 s", "1d", "61m", "-1s"];

/** Rules of the fields that a service and a policy share. */
export function targetCases(prefix: string, specOf: (scaling: unknown) => unknown): RuleCase[] {
  const target = (name: string, value: string) => specOf({ targets: { [name]: value } });
  const growth = (maxFactor: string) => specOf({ behavior: { scaleUp: { maxFactor } } });
  const field = (name: string) => `${prefix}.targets.${name}`;
  return [
    {
      rule: `${field("kvCacheUtilization")}#0`,
      accepts: fractions.good.map((value) => target("kvCacheUtilization", value)),
      rejects: fractions.bad.map((value) => [
        target("kvCacheUtilization", value),
        field("kvCacheUtilization"),
        /is not a fraction/,
      ]),
    },
    ...["ttft", "itl"].map(
      (name): RuleCase => ({
        rule: `${field(name)}#0`,
        accepts: ["40ms", "2s", "1m30s", "1h"].map((value) => target(name, value)),
        rejects: badTimes.map((value) => [target(name, value), field(name), /is not a duration/]),
      }),
    ),
    {
      rule: `${prefix}.behavior.scaleUp.maxFactor#0`,
      accepts: ["2", "1.5", "100"].map(growth),
      rejects: ["1", "1.0", "0.5", "two", "-2"].map((value) => [
        growth(value),
        `${prefix}.behavior.scaleUp.maxFactor`,
        /is not a factor above 1$/,
      ]),
    },
  ];
}

const validator = await ManifestValidator.load();

export function validated(
  kind: string,
  spec: unknown,
  name = "granite",
  old?: unknown,
): Validation {
  const manifest = { apiVersion: "quire.dev/v1alpha1", kind, metadata: { name }, spec };
  if (old === undefined) return validator.validate(manifest);
  const before = validator.validate({ ...manifest, spec: old });
  assert.ok(before.resource !== undefined, JSON.stringify(before.problems));
  return validator.validate(manifest, before.resource);
}

/** Runs every case both ways, and fails for a rule of the schema that has none. */
export function describeRules(kind: string, file: string, cases: readonly RuleCase[]): void {
  describe(`rules of ${kind}`, () => {
    for (const { rule, accepts, rejects, old } of cases) {
      it(`${rule} accepts`, () => {
        for (const spec of accepts) {
          const { problems } = validated(kind, spec, "granite", old);
          assert.deepEqual(problems, [], JSON.stringify(spec));
        }
      });
      it(`${rule} rejects, names the field and says what to do`, () => {
        for (const [spec, field, message] of rejects) {
          const { problems } = validated(kind, spec, "granite", old);
          assert.equal(problems.length, 1, JSON.stringify({ spec, problems }));
          const [problem] = problems;
          assert.equal(fieldName(problem?.path ?? []), field);
          assert.match(problem?.message ?? "", message);
          assert.match(problem?.remedy ?? "", /^[a-z].{8,}/);
        }
      });
    }

    it("are all tested", () => {
      const text = readFileSync(new URL(`../../crds/${file}`, import.meta.url), "utf8");
      const tested = cases.map(({ rule }) => rule);
      assert.deepEqual(placesOf(schemaOf(parse(text) as Crd), "").toSorted(), tested.toSorted());
    });
  });
}

/** Every rule of a schema but that of the root, which sees the name alone. */
function placesOf(schema: Schema, path: string): string[] {
  const rules = path === "" ? [] : (schema["x-kubernetes-validations"] ?? []);
  const inner = Object.entries(schema.properties ?? {}).flatMap(([name, child]) =>
    placesOf(child, path === "" ? name : `${path}.${name}`),
  );
  const items = schema.items === undefined ? [] : placesOf(schema.items, `${path}[]`);
  return [...rules.map((_, i) => `${path}#${i}`), ...inner, ...items];
}
