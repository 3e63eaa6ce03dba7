/** Keys and indices from the object's root to a value, as the `yaml` package's `getIn` takes them. */
export type Path = readonly (string | number)[];

/** One mistake in a manifest. */
export interface Problem {
  /** The value at fault; where it is missing, the place that it is missing from. */
  readonly path: Path;
  /** The fact: names the field and its value. */
  readonly message: string;
  /** What to write instead. */
  readonly remedy: string;
}

/** `["spec", "model", "aliases", 0]` → `spec.model.aliases[0]`. */
export function fieldName(path: Path): string {
  return path
    .map((key, i) => (typeof key === "number" ? `[${key}]` : i === 0 ? key : `.${key}`))
    .join("");
}

/** A problem of which only one sentence is known: `fact: remedy`, as the CRDs' rules say it. */
export function problemOf(path: Path, sentence: string): Problem {
  const colon = sentence.lastIndexOf(": ");
  if (colon < 0) throw new Error(`a rule's message has no remedy: ${sentence}`);
  return { path, message: sentence.slice(0, colon), remedy: sentence.slice(colon + 2) };
}
