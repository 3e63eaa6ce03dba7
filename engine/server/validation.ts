import { EngineError } from "../errors.ts";

/** The part of an Ajv error (with `verbose`) that messages are made of. */
export interface SchemaProblem {
  readonly keyword: string;
  readonly instancePath: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly message?: string;
  readonly data?: unknown;
}

/** Ajv as the routes use it: nothing is coerced, dropped or filled in behind the caller's back. */
export const ajvOptions = {
  coerceTypes: false,
  removeAdditional: false,
  useDefaults: false,
  allErrors: false,
  verbose: true,
  strict: false,
  allowUnionTypes: true,
} as const;

export const maxBodyDepth = 32;

/** @returns REQUEST_INVALID, or UNSUPPORTED_FIELD for a field that no schema has */
export function schemaError(problems: readonly SchemaProblem[]): EngineError {
  const problem = problems[0];
  if (problem === undefined) return invalid("The request is invalid", undefined);
  const field = fieldName(problem.instancePath);
  if (problem.keyword === "additionalProperties") {
    const name = join(field, String(problem.params["additionalProperty"]));
    return new EngineError(
      "UNSUPPORTED_FIELD",
      `${shorten(name)} is not a field of this endpoint`,
      {
        remedy: "Leave it out; /openapi.json lists the fields.",
        param: name,
      },
    );
  }
  if (problem.keyword === "required") {
    const name = join(field, String(problem.params["missingProperty"]));
    return invalid(`${name} is missing`, name);
  }
  const subject = field === "" ? "The body" : field;
  return invalid(`${subject} is ${shown(problem.data)}; it must ${rule(problem)}`, field);
}

function rule({ keyword, params, message }: SchemaProblem): string {
  const limit = String(params["limit"]);
  switch (keyword) {
    case "type":
      return `be ${[params["type"]].flat().join(" or ")}`;
    case "minimum":
      return `be at least ${limit}`;
    case "exclusiveMinimum":
      return `be more than ${limit}`;
    case "maximum":
      return `be at most ${limit}`;
    case "minLength":
      return `have at least ${limit} characters`;
    case "maxLength":
      return `have at most ${limit} characters`;
    case "minItems":
      return `have at least ${limit} items`;
    case "maxItems":
      return `have at most ${limit} items`;
    case "maxProperties":
      return `have at most ${limit} entries`;
    case "enum":
      return `be one of ${JSON.stringify(params["allowedValues"])}`;
    default:
      return message?.replace(/^must /, "") ?? "be valid";
  }
}

/** A value in an error: short, and without what a prompt may hold. */
function shown(value: unknown): string {
  if (typeof value === "string")
    return value.length > 40 ? `a text of ${value.length} characters` : JSON.stringify(value);
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === "object" && value !== null) return "an object";
  return String(value);
}

/** `/messages/0/role` → `messages.0.role`. */
function fieldName(instancePath: string): string {
  return instancePath
    .split("/")
    .slice(1)
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"))
    .join(".");
}

function join(parent: string, name: string): string {
  return parent === "" ? name : `${parent}.${name}`;
}

function shorten(name: string): string {
  return name.length > 80 ? `${name.slice(0, 80)}…` : name;
}

/**
 * What a schema cannot say of a body: its depth is limited, and its text is well-formed Unicode,
 * which a tokenizer needs and JSON does not promise. Walks without recursion.
 *
 * @throws EngineError REQUEST_INVALID
 */
export function inspectBody(body: unknown): void {
  let level: unknown[] = [body];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > maxBodyDepth) {
      throw invalid(`The body nests deeper than ${maxBodyDepth} levels`, undefined);
    }
    const next: unknown[] = [];
    for (const value of level) inspectValue(value, next);
    level = next;
  }
}

function inspectValue(value: unknown, next: unknown[]): void {
  if (typeof value === "string") {
    if (value.isWellFormed()) return;
    throw invalid("The body has a text with a lone surrogate, which is no character", undefined);
  }
  if (typeof value !== "object" || value === null) return;
  if (!Array.isArray(value)) for (const key of Object.keys(value)) next.push(key);
  // Prompts of token ids are long, and numbers need no look.
  for (const member of Object.values(value)) if (typeof member !== "number") next.push(member);
}

function invalid(message: string, param: string | undefined): EngineError {
  const named = param === undefined || param === "" ? {} : { param: shorten(param) };
  return new EngineError("REQUEST_INVALID", message, {
    remedy: "Correct the request; /openapi.json describes it.",
    ...named,
  });
}
