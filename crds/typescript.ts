import { type Crd, type Schema, schemaOf } from "./schema.ts";

/**
 * TypeScript types of a resource as it is stored: schema defaults applied, so that a field with a
 * default is never absent.
 */
export function typesOf(crd: Crd, source: string): string {
  const { kind } = crd.spec.names;
  const version = crd.spec.versions[0]?.name ?? "";
  const schema = schemaOf(crd);
  const spec = schema.properties?.["spec"] ?? {};
  const status = schema.properties?.["status"] ?? {};
  return `// Generated from ${source} by crds/generate.ts; edit that file instead.
import type { ObjectMeta } from "./object-meta.ts";

${comment(schema)}export interface ${kind} {
  readonly apiVersion: "${crd.spec.group}/${version}";
  readonly kind: "${kind}";
  readonly metadata: ObjectMeta;
  ${comment(spec)}readonly spec: ${kind}Spec;
  ${comment(status)}readonly status?: ${kind}Status;
}

export interface ${kind}Spec ${objectType(spec)}

export interface ${kind}Status ${objectType(status)}
`;
}

function comment({ description }: Schema): string {
  if (description === undefined) throw new Error("every field needs a description");
  const words = description.split(/\s+/);
  const lines = [""];
  for (const word of words) {
    const line = lines.at(-1) ?? "";
    if (line.length + word.length > 88) lines.push(word);
    else lines[lines.length - 1] = line === "" ? word : `${line} ${word}`;
  }
  return lines.length === 1
    ? `/** ${lines[0]} */\n`
    : `/**\n${lines.map((line) => ` * ${line}\n`).join("")} */\n`;
}

function objectType({ properties, required }: Schema): string {
  const fields = Object.entries(properties ?? {}).map(([name, schema]) => {
    const optional = required?.includes(name) !== true && schema.default === undefined;
    return `${comment(schema)}readonly ${name}${optional ? "?" : ""}: ${typeOf(schema)};\n`;
  });
  return `{\n${fields.join("")}}`;
}

function typeOf(schema: Schema): string {
  if (schema["x-kubernetes-int-or-string"] === true) return "string | number";
  if (schema.enum !== undefined) return schema.enum.map((v) => JSON.stringify(v)).join(" | ");
  switch (schema.type) {
    case "string":
      return "string";
    case "integer":
      return "number";
    case "boolean":
      return "boolean";
    case "array":
      return arrayType(schema);
    case "object":
      if (schema.properties !== undefined) return objectType(schema);
      return `Readonly<Record<string, ${mapValueType(schema)}>>`;
    default:
      throw new Error(`no TypeScript type for ${JSON.stringify(schema)}`);
  }
}

function arrayType({ items }: Schema): string {
  if (items === undefined) throw new Error("an array needs items");
  const item = typeOf(items);
  return /^[a-z]+$/.test(item) || item.startsWith("{")
    ? `readonly ${item}[]`
    : `readonly (${item})[]`;
}

function mapValueType({ additionalProperties }: Schema): string {
  return additionalProperties === undefined ? "unknown" : typeOf(additionalProperties);
}
