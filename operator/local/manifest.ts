import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseAllDocuments,
} from "yaml";
import { servedNames } from "../reconcile/pod-template.ts";
import { kubernetesOnly } from "../validation/kubernetes-only.ts";
import type { Path, Problem } from "../validation/problem.ts";
import type { ManifestValidator, Resource } from "../validation/validate.ts";

const maxManifestBytes = 1_048_576;
const maxDocuments = 100;

export interface Manifest {
  readonly resources: readonly Resource[];
  /** Each as `FILE:LINE: fact: remedy`; with any of them, `resources` is not to be used. */
  readonly problems: readonly string[];
}

interface Parsed {
  readonly resource: Resource;
  readonly line: number;
}

/**
 * Reads every document of a manifest and tells everything that is wrong with it at once.
 *
 * @param file as it is named in problems
 * @param oldOf the object of that kind and name as it stands: some rules compare with it
 */
export function readManifest(
  file: string,
  text: string,
  validator: ManifestValidator,
  oldOf: (kind: string, name: string) => Resource | undefined,
): Manifest {
  if (text.length > maxManifestBytes) {
    const fact = `the manifest has ${text.length} characters, more than ${maxManifestBytes}`;
    return { resources: [], problems: [`${file}:1: ${fact}: divide it`] };
  }
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines });
  const reader = new DocumentReader(file, lines, validator, oldOf);
  const parsed = [...documents].flatMap((document) => reader.read(document));
  reader.checkAll(parsed);
  return { resources: parsed.map(({ resource }) => resource), problems: reader.problems };
}

class DocumentReader {
  readonly problems: string[] = [];
  readonly #file: string;
  readonly #lines: LineCounter;
  readonly #validator: ManifestValidator;
  readonly #oldOf: (kind: string, name: string) => Resource | undefined;

  constructor(
    file: string,
    lines: LineCounter,
    validator: ManifestValidator,
    oldOf: (kind: string, name: string) => Resource | undefined,
  ) {
    this.#file = file;
    this.#lines = lines;
    this.#validator = validator;
    this.#oldOf = oldOf;
  }

  /** @returns nothing for an empty document and for one with problems. */
  read(document: Document.Parsed): Parsed[] {
    for (const error of document.errors) {
      const [message = error.message] = error.message.split(/ at line \d+/);
      this.#add(error.pos[0], message.replace(/:$/, ""), "correct the YAML");
    }
    if (document.errors.length > 0 || document.contents === null) return [];
    const start = document.contents.range[0];
    const value = this.#valueOf(document, start);
    if (value === undefined || value === null) return [];
    const validation = this.#validator.validate(value, this.#oldFor(value));
    const problems = [...validation.problems, ...kubernetesOnly(value)];
    for (const problem of problems) this.#addProblem(document, problem);
    if (problems.length > 0 || validation.resource === undefined) return [];
    return [{ resource: validation.resource, line: this.#lines.linePos(start).line }];
  }

  /** What no document can know of itself. */
  checkAll(parsed: readonly Parsed[]): void {
    if (parsed.length > maxDocuments) {
      this.#add(
        0,
        `the manifest has ${parsed.length} documents, more than ${maxDocuments}`,
        "divide it",
      );
    }
    if (parsed.length === 0 && this.problems.length === 0) {
      this.#add(0, "the manifest asks for nothing", "write an InferenceService, or end quire up");
    }
    this.#checkUnique(parsed, ({ kind, metadata }) => [`${kind} ${metadata.name}`], "rename one");
    this.#checkUnique(
      parsed,
      (resource) =>
        resource.kind === "InferenceService"
          ? servedNames(resource.metadata.name, resource.spec).map(
              (name) => `the model name "${name}"`,
            )
          : [],
      "give one of the models another spec.model.name or alias",
    );
  }

  #checkUnique(
    parsed: readonly Parsed[],
    namesOf: (resource: Resource) => readonly string[],
    remedy: string,
  ): void {
    const lineOf = new Map<string, number>();
    for (const { resource, line } of parsed) {
      for (const name of namesOf(resource)) {
        const first = lineOf.get(name);
        if (first === undefined) lineOf.set(name, line);
        else
          this.problems.push(
            `${this.#file}:${line}: ${name} is taken since line ${first}: ${remedy}`,
          );
      }
    }
  }

  #valueOf(document: Document.Parsed, start: number): unknown {
    try {
      return document.toJS();
    } catch (error) {
      this.#add(start, error instanceof Error ? error.message : String(error), "use fewer aliases");
      return undefined;
    }
  }

  #oldFor(value: unknown): Resource | undefined {
    const { kind, metadata } = value as { kind?: unknown; metadata?: { name?: unknown } | null };
    return this.#oldOf(String(kind), String(metadata?.name));
  }

  #addProblem(document: Document.Parsed, { path, message, remedy }: Problem): void {
    this.#add(offsetOf(document, path), message, remedy);
  }

  #add(offset: number, message: string, remedy: string): void {
    this.problems.push(`${this.#file}:${this.#lines.linePos(offset).line}: ${message}: ${remedy}`);
  }
}

/** Where the value of `path` stands, or the deepest part of the path that there is. */
function offsetOf(document: Document.Parsed, path: Path): number {
  let node: unknown = document.contents;
  let offset = document.contents?.range[0] ?? 0;
  for (const key of path) {
    const next = childOf(isAlias(node) ? node.resolve(document) : node, key);
    if (next === undefined) break;
    offset = next.offset;
    node = next.node;
  }
  return offset;
}

function childOf(
  node: unknown,
  key: string | number,
): { offset: number; node: unknown } | undefined {
  if (isSeq(node)) {
    const item = node.items[Number(key)] as Node | undefined;
    return item === undefined ? undefined : { offset: item.range?.[0] ?? 0, node: item };
  }
  if (!isMap(node)) return undefined;
  const pair = node.items.find((item) => isScalar(item.key) && item.key.value === key);
  if (pair === undefined) return undefined;
  // The key's line: a long value may begin on the next one.
  return { offset: (pair.key as Node).range?.[0] ?? 0, node: pair.value };
}
