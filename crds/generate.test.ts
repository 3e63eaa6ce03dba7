import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { parse } from "yaml";
import { generate } from "./generate.ts";
import { referenceOf } from "./reference.ts";
import { type Crd, type Schema, schemaOf } from "./schema.ts";
import { typesOf } from "./typescript.ts";

describe("generated files", () => {
  for (const [path, text] of generate()) {
    it(`${path} is up to date`, () => {
      assert.equal(readFileSync(new URL(`../${path}`, import.meta.url), "utf8"), text);
    });
  }
});

describe("the definitions", () => {
  for (const name of ["inferenceservice.yaml", "autoscalingpolicy.yaml"]) {
    const text = readFileSync(new URL(name, import.meta.url), "utf8");

    it(`${name} leaves room below the limit of an annotation`, () => {
      assert.ok(JSON.stringify(parse(text)).length < 60_000);
    });

    it(`${name} describes every field and bounds every value that a user writes`, () => {
      const spec = schemaOf(parse(text) as Crd).properties?.["spec"] ?? {};
      for (const [path, schema] of fieldsOf("spec", spec)) {
        assert.match(schema.description ?? "", /\.$|\.\)$/, path);
        assert.ok(isBounded(schema), `${path} has no limit`);
      }
    });
  }
});

describe("typesOf", () => {
  const text = typesOf(
    aCrd({
      required: ["uri"],
      properties: {
        uri: { type: "string", description: "Where." },
        size: { type: "integer", default: 1, description: "How big." },
        mode: { type: "string", enum: ["A", "B"], description: "Which." },
        cpu: { "x-kubernetes-int-or-string": true, description: "Cores." },
        tags: { type: "array", description: "Tags.", items: { type: "string" } },
        modes: { type: "array", description: "Modes.", items: { type: "string", enum: ["A"] } },
        labels: { type: "object", description: "L.", additionalProperties: { type: "string" } },
        free: { type: "object", description: "Free." },
      },
    }),
    "crds/thing.yaml",
  );
  const fields = [
    "readonly uri: string;",
    "readonly size: number;",
    'readonly mode?: "A" | "B";',
    "readonly cpu?: string | number;",
    "readonly tags?: readonly string[];",
    'readonly modes?: readonly ("A")[];',
    "readonly labels?: Readonly<Record<string, string>>;",
    "readonly free?: Readonly<Record<string, unknown>>;",
    "/** How big. */",
  ];
  for (const field of fields) {
    it(`writes ${field}`, () => assert.ok(text.includes(field), text));
  }

  it("refuses a field without a description", () => {
    const crd = aCrd({ properties: { uri: { type: "string" } } });

    assert.throws(() => typesOf(crd, "crds/thing.yaml"), /needs a description/);
  });
});

describe("referenceOf", () => {
  it("marks what is required and shows type, default and range", () => {
    const page = referenceOf([
      aCrd({
        required: ["a"],
        properties: {
          a: { type: "integer", minimum: 1, maximum: 8, default: 2, description: "An a." },
          list: {
            type: "array",
            description: "Items.",
            items: { type: "object", properties: { x: { type: "string", description: "A|b." } } },
          },
        },
      }),
    ]);

    assert.ok(page.includes("| `spec.a` * | integer | `2` | An a. 1 to 8. |"), page);
    assert.ok(page.includes("| `spec.list[].x` | string |  | A\\|b. |"), page);
  });
});

function isBounded(schema: Schema): boolean {
  if (schema.enum !== undefined) return true;
  if (schema.type === "integer")
    return schema.minimum !== undefined && schema.maximum !== undefined;
  if (schema.type === "array") return schema.maxItems !== undefined;
  if (schema.additionalProperties !== undefined) return schema.maxProperties !== undefined;
  if (schema.type === "string" || schema["x-kubernetes-int-or-string"] === true) {
    return schema.maxLength !== undefined;
  }
  return true;
}

function* fieldsOf(path: string, schema: Schema): Generator<[string, Schema]> {
  yield [path, schema];
  for (const [name, child] of Object.entries(schema.properties ?? {})) {
    yield* fieldsOf(`${path}.${name}`, child);
  }
  if (schema.items !== undefined) yield* fieldsOf(`${path}[]`, schema.items);
  const values = schema.additionalProperties;
  if (values !== undefined) yield* fieldsOf(`${path}.*`, values);
}

function aCrd(spec: Schema): Crd {
  const described: Schema = { type: "object", description: "A spec.", ...spec };
  const status: Schema = { type: "object", description: "A status.", properties: {} };
  const properties = { spec: described, status };
  const schema = { type: "object", description: "A thing.", properties } as const;
  return {
    metadata: { name: "things.quire.dev" },
    spec: {
      group: "quire.dev",
      scope: "Namespaced",
      names: { kind: "Thing", plural: "things", shortNames: ["th"] },
      versions: [{ name: "v1", schema: { openAPIV3Schema: schema } }],
    },
  };
}
