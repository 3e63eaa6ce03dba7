import { ignoredFields, unsupportedFields } from "../sampling/unsupported-fields.ts";

/**
 * JSON Schema of a generating endpoint's body: its own fields, those that are accepted without
 * effect, and those that are refused by name later. Any other field fails.
 */
export function requestBody(
  required: readonly string[],
  properties: Readonly<Record<string, object>>,
) {
  const named = (fields: readonly string[], description: string) =>
    Object.fromEntries(fields.map((field) => [field, { description }]));
  return {
    type: "object",
    required,
    additionalProperties: false,
    properties: {
      ...named(ignoredFields, "Accepted, without effect."),
      ...named(unsupportedFields, "Not supported: refused unless it asks for nothing."),
      ...properties,
    },
  };
}
