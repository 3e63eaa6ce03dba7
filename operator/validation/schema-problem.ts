import type { Schema } from "../../crds/schema.ts";
import type { SchemaError } from "./json-schema.ts";
import { fieldName, type Path, type Problem } from "./problem.ts";
import { mostSimilar } from "./similar.ts";

/** Says in words what a value breaks. `root` is the whole schema, to find misplaced fields in. */
export function schemaProblem(error: SchemaError, root: Schema): Problem {
  const path = pathOf(error.instancePath);
  const schema = error.parentSchema as Schema;
  switch (error.keyword) {
    case "additionalProperties":
      return unknownField(path, String(error.params["additionalProperty"]), schema, root);
    case "required":
      return missingField(path, String(error.params["missingProperty"]), schema);
    default: {
      const name = fieldName(path);
      const message = `${name} is ${shown(error.data)}${factOf(error)}`;
      return { path, message, remedy: remedyOf(error.keyword, error.data, schema) };
    }
  }
}

function unknownField(path: Path, name: string, schema: Schema, root: Schema): Problem {
  const known = Object.keys(schema.properties ?? {});
  const full = [...path, name];
  const elsewhere = placeOf(name, root, []);
  const similar = mostSimilar(name, known);
  const remedy =
    elsewhere !== undefined
      ? `write it as ${fieldName(elsewhere)}`
      : similar !== undefined
        ? `did you mean "${similar}"?`
        : `remove it, or use one of ${known.join(", ")}`;
  return { path: full, message: `${fieldName(full)} is not a field`, remedy };
}

/** Where the schema has a field of this name, outermost first. */
function placeOf(name: string, schema: Schema, path: Path): Path | undefined {
  const children = Object.entries(schema.properties ?? {}).filter(([key]) => key !== "status");
  if (children.some(([key]) => key === name)) return [...path, name];
  for (const [key, child] of children) {
    const place = placeOf(name, child, [...path, key]);
    if (place !== undefined) return place;
  }
  return undefined;
}

function missingField(path: Path, name: string, schema: Schema): Problem {
  const description = schema.properties?.[name]?.description ?? "";
  return {
    path,
    message: `${fieldName([...path, name])} is missing`,
    remedy: `add it. ${description}`,
  };
}

function factOf({ keyword, params }: SchemaError): string {
  switch (keyword) {
    case "type":
      return `, not ${typeWords[String(params["type"])] ?? `one of ${params["type"]}`}`;
    case "uniqueItems":
      return `, where items ${params["i"]} and ${params["j"]} are the same`;
    case "enum":
      return ", which is not one of its values";
    case "minimum":
      return `, below ${params["limit"]}`;
    case "maximum":
      return `, above ${params["limit"]}`;
    case "pattern":
      return ", which is not of its form";
    default:
      return `, not within its limit of ${params["limit"]}`;
  }
}

const typeWords: Readonly<Record<string, string>> = {
  object: "a mapping",
  array: "a list",
  string: "text",
  integer: "a whole number",
  boolean: "true or false",
  "integer,string": "a number or text",
};

function remedyOf(keyword: string, data: unknown, schema: Schema): string {
  const values = schema.enum?.map(String);
  if (keyword === "enum" && values !== undefined) {
    const similar = mostSimilar(String(data), values);
    return similar === undefined ? `use one of ${values.join(", ")}` : `did you mean "${similar}"?`;
  }
  if (keyword === "type" && schema.type === "string") return 'put it in quotes, like "0.80"';
  const { minimum, maximum, description = "" } = schema;
  if (minimum !== undefined && maximum !== undefined) {
    return `write a whole number from ${minimum} to ${maximum}. ${description}`;
  }
  return `correct it. ${description}`;
}

const maxShownLength = 80;

function shown(data: unknown): string {
  const text = JSON.stringify(data);
  return text.length <= maxShownLength ? text : `${text.slice(0, maxShownLength)}…`;
}

/** JSON pointer → path; indices become numbers. */
function pathOf(pointer: string): Path {
  return pointer
    .split("/")
    .slice(1)
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"))
    .map((part) => (/^\d+$/.test(part) ? Number(part) : part));
}
