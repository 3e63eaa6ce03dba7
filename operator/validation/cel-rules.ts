import {
  type CelInput,
  CelScalar,
  celEnv,
  celFunc,
  celMethod,
  isCelError,
  parse,
  plan,
} from "@bufbuild/cel";
import { strings } from "@bufbuild/cel/ext";
import type { Rule, Schema } from "../../crds/schema.ts";
import { quantityMillis } from "../api/quantity.ts";
import { type Path, type Problem, problemOf } from "./problem.ts";

/**
 * Kubernetes' extension of CEL, as far as our rules go. A quantity is held as its thousandths: they
 * only compare quantities.
 */
const kubernetesFunctions = [
  celFunc("quantity", [CelScalar.STRING], CelScalar.INT, quantityMillis),
  celMethod("compareTo", CelScalar.INT, [CelScalar.INT], CelScalar.INT, function (other) {
    return BigInt(Number(this > other) - Number(this < other));
  }),
];

const env = celEnv({ funcs: [...strings, ...kubernetesFunctions] });

type Evaluate = (bindings: Record<string, CelInput>) => unknown;

interface PlannedRule {
  readonly source: Rule;
  readonly holds: Evaluate;
  readonly message: Evaluate;
  /** Compares with the value before the change, so that it says nothing of a new object. */
  readonly isTransition: boolean;
}

/** The CEL rules of a schema, planned once. */
export class CelRules {
  readonly #planned = new Map<Rule, PlannedRule>();

  /** Every rule of the schema that the value breaks. The value must fit the schema. */
  check(schema: Schema, value: unknown, oldValue: unknown): Problem[] {
    return [...this.#broken(schema, value, oldValue, [])];
  }

  *#broken(schema: Schema, value: unknown, oldValue: unknown, path: Path): Generator<Problem> {
    for (const rule of schema["x-kubernetes-validations"] ?? []) {
      const problem = this.#evaluate(this.#plan(rule), schema, value, oldValue, path);
      if (problem !== undefined) yield problem;
    }
    for (const [key, child, childSchema] of childrenOf(schema, value)) {
      // Items of a list have no identity over a change: the API server does not compare them.
      const old = Array.isArray(value) ? undefined : fieldsOf(oldValue)[key];
      yield* this.#broken(childSchema, child, old, [...path, key]);
    }
  }

  #plan(source: Rule): PlannedRule {
    const known = this.#planned.get(source);
    if (known !== undefined) return known;
    const { message = "" } = source;
    const planned = {
      source,
      holds: compile(source.rule),
      message:
        source.messageExpression === undefined ? () => message : compile(source.messageExpression),
      isTransition: /\boldSelf\b/.test(source.rule),
    };
    this.#planned.set(source, planned);
    return planned;
  }

  #evaluate(
    rule: PlannedRule,
    schema: Schema,
    value: unknown,
    oldValue: unknown,
    path: Path,
  ): Problem | undefined {
    if (rule.isTransition && oldValue === undefined) return undefined;
    const bindings: Record<string, CelInput> = { self: toCel(schema, value) };
    if (rule.isTransition) bindings["oldSelf"] = toCel(schema, oldValue);
    const holds = rule.holds(bindings);
    if (holds === true) return undefined;
    if (holds !== false) throw failed(rule.source.rule, holds);
    const message = rule.message(bindings);
    if (typeof message !== "string") throw failed(rule.source.rule, message);
    return problemOf(faultPath(rule.source, path), message);
  }
}

function compile(expression: string): Evaluate {
  return plan(env, parse(expression)) as Evaluate;
}

function failed(rule: string, result: unknown): Error {
  return new Error(`the rule ${rule} has no answer`, {
    cause: isCelError(result) ? result : undefined,
  });
}

/** Of the object's own metadata, rules of the root see the name alone. */
function faultPath({ fieldPath }: Rule, path: Path): Path {
  if (fieldPath === undefined) return path.length === 0 ? ["metadata", "name"] : path;
  return [...path, ...fieldPath.split(".").slice(1)];
}

function* childrenOf(
  schema: Schema,
  value: unknown,
): Generator<[string | number, unknown, Schema]> {
  if (Array.isArray(value)) {
    const { items } = schema;
    if (items !== undefined) for (const [i, item] of value.entries()) yield [i, item, items];
    return;
  }
  for (const [key, child] of Object.entries(fieldsOf(value))) {
    const property = schema.properties?.[key] ?? schema.additionalProperties;
    if (property !== undefined && child !== undefined) yield [key, child, property];
  }
}

function fieldsOf(value: unknown): Readonly<Record<string | number, unknown>> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}

/** Numbers are CEL's int; fields that the schema does not name stay invisible, as to the server. */
function toCel(schema: Schema, value: unknown): CelInput {
  if (typeof value === "number") return BigInt(value);
  if (typeof value === "string" || typeof value === "boolean") return value;
  if (Array.isArray(value)) return value.map((item) => toCel(schema.items ?? {}, item));
  const children = [...childrenOf(schema, value)];
  return Object.fromEntries(children.map(([key, child, inner]) => [key, toCel(inner, child)]));
}
