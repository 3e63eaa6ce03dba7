import { isUtf8 } from "node:buffer";

import type { JsonObject, JsonValue } from "../models/model-spec.ts";
import { invalidCheckpoint, type Place, quote } from "./invalid-checkpoint.ts";

/** Far beyond any configuration or header: they nest 5 deep. */
const maxDepth = 64;
/** Bounds what a parse can allocate to some hundred bytes for each value. */
const maxValues = 4_000_000;

const quotationMark = 0x22;
const backslash = 0x5c;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const colon = 0x3a;
const comma = 0x2c;
const nestingOf: ReadonlyMap<number, 1 | -1> = new Map([
  [openBrace, 1],
  [0x5b, 1],
  [closeBrace, -1],
  [0x5d, -1],
]);

/**
 * Parses an untrusted JSON object. Depth and number of values are counted before `JSON.parse` may
 * allocate anything for them.
 *
 * @param keys `"unique"` refuses an object that names a key twice, which `JSON.parse` would take as
 * an overwrite.
 * @throws EngineError CHECKPOINT_INVALID
 */
export function parseJsonObject(
  bytes: Buffer,
  place: Place,
  keys: "unique" | "lastWins" = "lastWins",
): JsonObject {
  if (!isUtf8(bytes)) throw invalidCheckpoint(place, "the JSON is not valid UTF-8");
  const keyCount = countKeys(bytes, place);
  const value = parse(bytes, place);
  if (!isJsonObject(value)) throw invalidCheckpoint(place, "the JSON is not an object");
  if (keys === "unique" && keyCount !== countParsedKeys(value)) {
    throw invalidCheckpoint(place, `the JSON repeats the key ${quote(repeatedKey(bytes))}`);
  }
  return value;
}

export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parse(bytes: Buffer, place: Place): JsonValue {
  try {
    return JSON.parse(bytes.toString("utf8")) as JsonValue;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw invalidCheckpoint(place, `not valid JSON: ${quote(reason)}`, undefined, error);
  }
}

/** Calls `visit` for each byte outside strings; a string counts as its closing quote. */
function scan(bytes: Buffer, visit: (byte: number, start: number, end: number) => void): void {
  for (let i = 0; i < bytes.length; i++) {
    const start = i;
    if (bytes[i] === quotationMark) i = closingQuote(bytes, i);
    visit(bytes[start] ?? 0, start, i + 1);
  }
}

function closingQuote(bytes: Buffer, start: number): number {
  let i = start + 1;
  while (i < bytes.length && bytes[i] !== quotationMark) i += bytes[i] === backslash ? 2 : 1;
  return Math.min(i, bytes.length - 1);
}

/** In valid JSON every key has one colon outside strings, and every value a comma or a bracket. */
function countKeys(bytes: Buffer, place: Place): number {
  let depth = 0;
  let keyCount = 0;
  let valueCount = 0;
  scan(bytes, (byte) => {
    const nesting = nestingOf.get(byte) ?? 0;
    depth += nesting;
    if (byte === colon) keyCount++;
    if (byte === comma || nesting > 0) valueCount++;
    if (depth > maxDepth) throw invalidCheckpoint(place, `JSON nests deeper than ${maxDepth}`);
    if (valueCount > maxValues) {
      throw invalidCheckpoint(place, `JSON holds more than ${maxValues} values`);
    }
  });
  return keyCount;
}

function countParsedKeys(value: JsonValue): number {
  if (typeof value !== "object" || value === null) return 0;
  if (Array.isArray(value)) return value.reduce((sum, item) => sum + countParsedKeys(item), 0);
  let count = 0;
  for (const item of Object.values(value)) count += 1 + countParsedKeys(item);
  return count;
}

/** The first key that its object has already; called only when there is one. */
function repeatedKey(bytes: Buffer): string {
  const seen: Set<string>[] = [];
  let lastString = "";
  let repeated: string | undefined;
  scan(bytes, (byte, start, end) => {
    if (byte === quotationMark) lastString = bytes.toString("utf8", start, end);
    else if (byte === openBrace) seen.push(new Set());
    else if (byte === closeBrace) seen.pop();
    else if (byte === colon && repeated === undefined) {
      const key: string = JSON.parse(lastString);
      if (seen.at(-1)?.has(key)) repeated = key;
      seen.at(-1)?.add(key);
    }
  });
  return repeated ?? "";
}
