import { Ajv, type ErrorObject, type ValidateFunction } from "ajv";
import type { Schema } from "../../crds/schema.ts";

/** Kubernetes' object metadata, which a structural schema only names. */
const metadataSchema = {
  type: "object",
  description: "Kubernetes' object metadata.",
  required: ["name"],
  properties: {
    name: { type: "string", minLength: 1, description: "The object's name." },
    namespace: { type: "string", minLength: 1, description: "The namespace, `default` if unset." },
    labels: {
      type: "object",
      description: "Labels.",
      additionalProperties: { type: "string", description: "The label's value." },
    },
    annotations: {
      type: "object",
      description: "Annotations.",
      additionalProperties: { type: "string", description: "The annotation's value." },
    },
  },
} as const satisfies Schema;

/** The schema with its metadata written out: what a manifest may say. */
export function manifestSchema(schema: Schema): Schema {
  return { ...schema, properties: { ...schema.properties, metadata: metadataSchema } };
}

/** Compiles a structural schema. Fields that it does not name are errors, as `kubectl` has it. */
export function compileSchema(schema: Schema): ValidateFunction {
  const ajv = new Ajv({ allErrors: true, verbose: true, allowUnionTypes: true });
  for (const format of ["int32", "int64", "date-time"]) ajv.addFormat(format, true);
  return ajv.compile(toJsonSchema(schema));
}

export type SchemaError = ErrorObject;

function toJsonSchema(schema: Schema): Record<string, unknown> {
  const { properties, additionalProperties, items, type } = schema;
  const result: Record<string, unknown> = { ...constraintsOf(schema) };
  if (schema["x-kubernetes-int-or-string"] === true) result["type"] = ["integer", "string"];
  else if (type !== undefined) result["type"] = type;
  if (schema["x-kubernetes-list-type"] === "set") result["uniqueItems"] = true;
  if (items !== undefined) result["items"] = toJsonSchema(items);
  if (properties !== undefined) {
    const entries = Object.entries(properties).map(([key, child]) => [key, toJsonSchema(child)]);
    result["properties"] = Object.fromEntries(entries);
  }
  if (additionalProperties !== undefined) {
    result["additionalProperties"] = toJsonSchema(additionalProperties);
  } else if (type === "object" && schema["x-kubernetes-preserve-unknown-fields"] !== true) {
    result["additionalProperties"] = false;
  }
  return result;
}

const constraints = [
  "description",
  "enum",
  "format",
  "pattern",
  "minimum",
  "maximum",
  "minLength",
  "maxLength",
  "minItems",
  "maxItems",
  "maxProperties",
  "required",
] as const satisfies (keyof Schema)[];

function constraintsOf(schema: Schema): Record<string, unknown> {
  const given = constraints.filter((name) => schema[name] !== undefined);
  return Object.fromEntries(given.map((name) => [name, schema[name]]));
}
