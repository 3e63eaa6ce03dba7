import { parseArgs } from "node:util";
import type { Setting } from "./setting.ts";

type Rows = Readonly<Record<string, Pick<Setting<unknown>, "flag">>>;

/** `maxModelLen` → `max-model-len`. */
export function flagName(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/**
 * Flags as written, by setting key. Takes `--flag value`, `--flag=value`, `--switch`, `--no-switch`
 * and `--switch=false`; a bare argument is the setting `model`.
 *
 * @param problems takes a sentence for each flag that is unknown, repeated or lacks its value
 */
export function readFlags(
  argv: readonly string[],
  rows: Rows,
  problems: string[],
): Map<string, string> {
  const reader = new FlagReader(rows, problems);
  const { tokens } = parseArgs({
    args: [...argv],
    options: reader.options(),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  for (const token of tokens) {
    if (token.kind === "positional") {
      reader.set("model", token.value, `a second model, ${token.value},`);
    } else if (token.kind === "option") {
      reader.read(token.name, token.rawName, token.value);
    }
  }
  return reader.values;
}

class FlagReader {
  readonly values = new Map<string, string>();
  readonly #rows: Rows;
  readonly #problems: string[];
  readonly #keys = new Map<string, string>();

  constructor(rows: Rows, problems: string[]) {
    this.#rows = rows;
    this.#problems = problems;
    for (const [key, row] of Object.entries(rows)) {
      if (row.flag !== "none") this.#keys.set(flagName(key), key);
    }
  }

  options(): Record<string, { type: "boolean" | "string" }> {
    return Object.fromEntries(
      [...this.#keys].map(([flag, key]) => [
        flag,
        { type: this.#kind(key) === "switch" ? "boolean" : "string" },
      ]),
    );
  }

  read(name: string, rawName: string, value: string | undefined): void {
    const negated = !this.#keys.has(name) && name.startsWith("no-");
    const key = this.#keys.get(negated ? name.slice(3) : name);
    const kind = key === undefined ? undefined : this.#kind(key);
    if (key === undefined || (negated && kind !== "switch")) {
      this.#problems.push(`${rawName} is not a flag`);
    } else if (kind === "switch") {
      this.set(key, negated ? "false" : (value ?? "true"), rawName);
    } else {
      this.#setValue(key, value, rawName);
    }
  }

  set(key: string, value: string, what: string): void {
    if (this.values.has(key)) this.#problems.push(`${what} is given twice`);
    this.values.set(key, value);
  }

  #setValue(key: string, value: string | undefined, rawName: string): void {
    const before = this.values.get(key);
    if (value === undefined || value.startsWith("--")) {
      this.#problems.push(`${rawName} needs a value`);
    } else if (before !== undefined && this.#kind(key) === "list") {
      this.values.set(key, `${before},${value}`);
    } else {
      this.set(key, value, rawName);
    }
  }

  #kind(key: string): Setting<unknown>["flag"] | undefined {
    return this.#rows[key]?.flag;
  }
}
