import { readFile } from "node:fs/promises";
import type { ValidateFunction } from "ajv";
import { parse } from "yaml";
import { type Crd, type Schema, schemaOf } from "../../crds/schema.ts";
import type { AutoscalingPolicy } from "../api/autoscaling-policy.ts";
import type { InferenceService } from "../api/inference-service.ts";
import { apiVersion } from "../api/names.ts";
import { CelRules } from "./cel-rules.ts";
import { withDefaults } from "./defaults.ts";
import { compileSchema, manifestSchema } from "./json-schema.ts";
import type { Problem } from "./problem.ts";
import { schemaProblem } from "./schema-problem.ts";
import { mostSimilar } from "./similar.ts";

export type Resource = InferenceService | AutoscalingPolicy;

/** The object with defaults filled in, or everything that is wrong with it. */
export type Validation =
  | { readonly resource: Resource; readonly problems: readonly [] }
  | { readonly resource: undefined; readonly problems: readonly Problem[] };

interface Kind {
  readonly schema: Schema;
  readonly validateSchema: ValidateFunction;
  readonly rules: CelRules;
}

const definitions = ["inferenceservice.yaml", "autoscalingpolicy.yaml"];

/**
 * What an API server does with a manifest, without one: unknown fields, the CRD's schema, its
 * defaults and its CEL rules, all read from `crds/`.
 */
export class ManifestValidator {
  readonly #kinds: ReadonlyMap<string, Kind>;

  private constructor(crds: readonly Crd[]) {
    this.#kinds = new Map(crds.map((crd) => [crd.spec.names.kind, kindOf(crd)]));
  }

  static async load(): Promise<ManifestValidator> {
    const crds = definitions.map(async (name): Promise<Crd> => {
      const url = new URL(`../../crds/${name}`, import.meta.url);
      return parse(await readFile(url, "utf8"));
    });
    return new ManifestValidator(await Promise.all(crds));
  }

  /**
   * @param manifest one parsed document; its `status` is not looked at
   * @param old the object as it was, which transition rules compare with; absent when it is new
   */
  validate(manifest: unknown, old?: Resource): Validation {
    const kind = this.#kindOf(manifest);
    if ("problem" in kind) return { resource: undefined, problems: [kind.problem] };
    const { status: _, ...given } = manifest as Record<string, unknown>;
    const filled = withDefaults(kind.schema, given);
    const problems = kind.validateSchema(filled)
      ? kind.rules.check(kind.schema, filled, old)
      : (kind.validateSchema.errors ?? []).map((error) => schemaProblem(error, kind.schema));
    return problems.length === 0
      ? { resource: filled as Resource, problems: [] }
      : { resource: undefined, problems };
  }

  #kindOf(manifest: unknown): Kind | { readonly problem: Problem } {
    if (typeof manifest !== "object" || manifest === null || Array.isArray(manifest)) {
      const message = "the document is not a mapping";
      const remedy = `begin with "apiVersion: ${apiVersion}"`;
      return { problem: { path: [], message, remedy } };
    }
    const fields = new Map<string, unknown>(Object.entries(manifest));
    const [version, name] = [fields.get("apiVersion"), fields.get("kind")];
    if (version !== apiVersion) {
      const message = `apiVersion is ${JSON.stringify(version) ?? "missing"}`;
      return { problem: { path: ["apiVersion"], message, remedy: `write ${apiVersion}` } };
    }
    const kind = this.#kinds.get(String(name));
    if (kind !== undefined) return kind;
    const names = [...this.#kinds.keys()];
    const similar = mostSimilar(String(name), names);
    const message = `kind is ${JSON.stringify(name) ?? "missing"}`;
    const remedy =
      similar === undefined ? `use ${names.join(" or ")}` : `did you mean "${similar}"?`;
    return { problem: { path: ["kind"], message, remedy } };
  }
}

function kindOf(crd: Crd): Kind {
  const schema = manifestSchema(schemaOf(crd));
  return { schema, validateSchema: compileSchema(schema), rules: new CelRules() };
}
