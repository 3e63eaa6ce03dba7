import { EngineError } from "../errors.ts";
import type { GgufValue, JsonObject, JsonValue } from "./model-spec.ts";

const remedy = "Check that the checkpoint is complete and was made for this architecture.";

/**
 * Named values of a checkpoint's description, read with their types checked. `null` counts as
 * absent, as in `config.json`. Every reader throws CHECKPOINT_INVALID naming the key, and asks for
 * the key when it has no fallback.
 */
export class Fields {
  /** Where the values stand, for messages, such as `config.json`. */
  readonly label: string;
  readonly #lookup: (key: string) => JsonValue | GgufValue | undefined;

  constructor(label: string, lookup: (key: string) => JsonValue | GgufValue | undefined) {
    this.label = label;
    this.#lookup = lookup;
  }

  has(key: string): boolean {
    return this.#value(key) !== undefined;
  }

  isList(key: string): boolean {
    return Array.isArray(this.#value(key));
  }

  isObject(key: string): boolean {
    return isJsonObject(this.#value(key));
  }

  /** A positive integer. */
  count(key: string, fallback?: number): number {
    const value = this.number(key, fallback);
    if (!Number.isSafeInteger(value) || value < 1) {
      throw this.#invalid(key, value, "a positive integer");
    }
    return value;
  }

  /** A finite number. */
  number(key: string, fallback?: number): number {
    const value = this.#value(key) ?? fallback;
    if (value === undefined) throw this.#missing(key);
    if (typeof value !== "number" || !Number.isFinite(value)) {
      throw this.#invalid(key, value, "a number");
    }
    return value;
  }

  text(key: string, fallback?: string): string {
    const value = this.#value(key) ?? fallback;
    if (value === undefined) throw this.#missing(key);
    if (typeof value !== "string") throw this.#invalid(key, value, "a string");
    return value;
  }

  flag(key: string, fallback: boolean): boolean {
    const value = this.#value(key) ?? fallback;
    if (typeof value !== "boolean") throw this.#invalid(key, value, "true or false");
    return value;
  }

  numbers(key: string): readonly number[] {
    const value = this.#value(key);
    if (value === undefined) throw this.#missing(key);
    if (!Array.isArray(value) || !value.every((item) => typeof item === "number")) {
      throw this.#invalid(key, value, "a list of numbers");
    }
    return value;
  }

  texts(key: string): readonly string[] {
    const value = this.#value(key);
    if (value === undefined) throw this.#missing(key);
    if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
      throw this.#invalid(key, value, "a list of strings");
    }
    return value;
  }

  /** A JSON object's own fields. */
  child(key: string): Fields | undefined {
    const value = this.#value(key);
    if (value === undefined) return undefined;
    if (!isJsonObject(value)) throw this.#invalid(key, value, "an object");
    return jsonFields(`${this.label}: ${key}`, value);
  }

  #value(key: string): JsonValue | GgufValue | undefined {
    return this.#lookup(key) ?? undefined;
  }

  #missing(key: string): EngineError {
    return new EngineError("CHECKPOINT_INVALID", `${this.label} lacks "${key}"`, { remedy });
  }

  #invalid(key: string, value: unknown, wanted: string): EngineError {
    const shown = typeof value === "object" ? "a list or an object" : JSON.stringify(String(value));
    return new EngineError(
      "CHECKPOINT_INVALID",
      `${this.label} has "${key}" as ${shown} where ${wanted} belongs`,
      { remedy },
    );
  }
}

export function jsonFields(label: string, object: JsonObject): Fields {
  return new Fields(label, (key) => (Object.hasOwn(object, key) ? object[key] : undefined));
}

/** Fields below one prefix of a GGUF file's metadata, such as `llama.`; "" for all of them. */
export function ggufFields(metadata: ReadonlyMap<string, GgufValue>, prefix: string): Fields {
  return new Fields("GGUF metadata", (key) => metadata.get(prefix + key));
}

/** Tokens that a GGUF file names, or 0 when it has no vocabulary. */
export function ggufTokenCount(metadata: ReadonlyMap<string, GgufValue>): number {
  const tokens = metadata.get("tokenizer.ggml.tokens");
  return Array.isArray(tokens) ? tokens.length : 0;
}

/** A refusal of something that a checkpoint asks for and that this engine does not compute. */
export function unsupported(message: string, remedyText: string): EngineError {
  return new EngineError("MODEL_UNSUPPORTED", message, { remedy: remedyText });
}

export function invalid(message: string): EngineError {
  return new EngineError("CHECKPOINT_INVALID", message, { remedy });
}

function isJsonObject(value: JsonValue | GgufValue | undefined): value is JsonObject {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !ArrayBuffer.isView(value)
  );
}
