/** One row of a settings table: how a value is written, read and explained. */
export interface Setting<Value> {
  readonly env: string;
  /** Secrets have no flag: a command line is visible to every user of the machine. */
  readonly flag: "value" | "list" | "switch" | "none";
  readonly default: Value;
  /** Limits in words, for `--help` and the reference page. */
  readonly allowed: string;
  readonly unit: string;
  readonly help: string;
  /** @throws Error whose message says what is allowed */
  parse(raw: string): Value;
}

interface Described {
  readonly env: string;
  readonly help: string;
}

export function text(options: Described & { default: string }): Setting<string> {
  return { unit: "", allowed: "text", flag: "value", ...options, parse: (raw) => raw };
}

/** Text that comes from the environment alone, and that no page or log shows. */
export function secret(options: Described): Setting<string> {
  return { ...text({ ...options, default: "" }), flag: "none" };
}

/** Items separated by commas; the flag may also be repeated. */
export function list(options: Described): Setting<readonly string[]> {
  return {
    unit: "",
    allowed: "comma-separated",
    flag: "list",
    default: [],
    ...options,
    parse: (raw) =>
      raw
        .split(",")
        .map((item) => item.trim())
        .filter((item) => item !== ""),
  };
}

export function choice<const Value extends string | number>(
  options: Described & { default: Value; values: readonly Value[]; unit?: string },
): Setting<Value> {
  const { values, ...described } = options;
  const allowed = values.join(", ");
  return {
    unit: "",
    ...described,
    allowed,
    flag: "value",
    parse(raw) {
      const found = values.find((value) => String(value) === raw.trim());
      if (found === undefined) throw new Error(`must be one of ${allowed}`);
      return found;
    },
  };
}

export function toggle(options: Described & { default: boolean }): Setting<boolean> {
  return {
    unit: "",
    allowed: "true, false",
    flag: "switch",
    ...options,
    parse(raw) {
      const word = raw.trim().toLowerCase();
      if (word === "true" || word === "1") return true;
      if (word === "false" || word === "0") return false;
      throw new Error("must be true or false");
    },
  };
}

interface Range {
  readonly default: number;
  readonly min: number;
  readonly max: number;
}

export function integer(options: Described & Range & { unit?: string }): Setting<number> {
  const { min, max, ...described } = options;
  return {
    unit: "",
    ...described,
    allowed: `${min} to ${max}`,
    flag: "value",
    parse: (raw) => within(/^-?\d+$/.test(raw.trim()) ? Number(raw) : Number.NaN, min, max, ""),
  };
}

const byteUnits: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  ki: 1024,
  mi: 1024 ** 2,
  gi: 1024 ** 3,
  ti: 1024 ** 4,
};

/** Bytes as a number or as a Kubernetes quantity: `512Mi`, `8Gi`, `2G`. */
export function bytes(options: Described & Range): Setting<number> {
  const { min, max, ...described } = options;
  const allowed = `${min} to ${max}`;
  return {
    ...described,
    allowed,
    unit: "bytes",
    flag: "value",
    parse(raw) {
      const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?$/i.exec(raw.trim());
      const unit = byteUnits[(match?.[2] ?? "?").toLowerCase()];
      const amount = unit === undefined ? Number.NaN : Math.floor(Number(match?.[1]) * unit);
      return within(amount, min, max, ", such as 512Mi or 8Gi");
    },
  };
}

function within(value: number, min: number, max: number, hint: string): number {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw new Error(`must be a whole number from ${min} to ${max}${hint}`);
}
