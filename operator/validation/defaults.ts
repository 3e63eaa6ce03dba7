import type { Schema } from "../../crds/schema.ts";

/**
 * A copy of `value` with the schema's defaults filled in as the API server does: from the outside
 * in, so that a default of `{}` is filled further, and null is read as absent.
 */
export function withDefaults(schema: Schema, value: unknown): unknown {
  if (Array.isArray(value)) {
    const { items } = schema;
    return items === undefined ? value : value.map((item) => withDefaults(items, item));
  }
  if (typeof value !== "object" || value === null) return value;
  const fields = new Map<string, unknown>(Object.entries(value));
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const filled = fields.get(name) ?? structuredClone(property.default);
    if (filled === undefined) fields.delete(name);
    else fields.set(name, withDefaults(property, filled));
  }
  return Object.fromEntries(fields);
}
