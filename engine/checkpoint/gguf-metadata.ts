import type { GgufValue } from "../models/model-spec.ts";
import type { GgufCursor } from "./gguf-cursor.ts";
import { invalidCheckpoint, quote } from "./invalid-checkpoint.ts";

const maxPairs = 65_536;
/** A key of no characters, its type and a value of one byte. */
const minPairBytes = 8 + 4 + 1;
const stringCode = 8;
const arrayCode = 9;

/** One scalar type of the format: its size, and how one and how many are decoded. */
interface Scalar {
  readonly bytes: number;
  /** @returns undefined when the bytes are not a value of the type. */
  one(bytes: Buffer): GgufValue | undefined;
  many(bytes: Buffer): GgufValue | undefined;
}

/** The value types of ggml's `docs/gguf.md`, by their number there. */
const scalars: ReadonlyMap<number, Scalar> = new Map<number, Scalar>([
  [0, { bytes: 1, one: (b) => b.readUInt8(), many: (b) => copied(b, Uint8Array) }],
  [1, { bytes: 1, one: (b) => b.readInt8(), many: (b) => copied(b, Int8Array) }],
  [2, { bytes: 2, one: (b) => b.readUInt16LE(), many: (b) => copied(b, Uint16Array) }],
  [3, { bytes: 2, one: (b) => b.readInt16LE(), many: (b) => copied(b, Int16Array) }],
  [4, { bytes: 4, one: (b) => b.readUInt32LE(), many: (b) => copied(b, Uint32Array) }],
  [5, { bytes: 4, one: (b) => b.readInt32LE(), many: (b) => copied(b, Int32Array) }],
  [6, { bytes: 4, one: (b) => b.readFloatLE(), many: (b) => copied(b, Float32Array) }],
  [7, { bytes: 1, one: (b) => booleans(b)?.[0], many: booleans }],
  [10, { bytes: 8, one: (b) => numberIfSafe(b.readBigUInt64LE()), many: unsigned64 }],
  [11, { bytes: 8, one: (b) => numberIfSafe(b.readBigInt64LE()), many: signed64 }],
  [12, { bytes: 8, one: (b) => b.readDoubleLE(), many: (b) => copied(b, Float64Array) }],
]);

/**
 * The key-value pairs of a GGUF header; the cursor stands at their number.
 *
 * @throws EngineError CHECKPOINT_INVALID
 */
export function readMetadata(cursor: GgufCursor, file: string): ReadonlyMap<string, GgufValue> {
  cursor.what = "the number of metadata keys";
  const pairCount = cursor.count(minPairBytes, maxPairs);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < pairCount; i++) {
    cursor.what = "a metadata key";
    const offset = cursor.position;
    const key = cursor.string();
    if (metadata.has(key)) {
      throw invalidCheckpoint({ file, offset }, `key ${quote(key)} is repeated`);
    }
    cursor.what = `key ${quote(key)}`;
    metadata.set(key, readValue(cursor, file));
  }
  return metadata;
}

function readValue(cursor: GgufCursor, file: string): GgufValue {
  const code = cursor.u32();
  if (code === stringCode) return cursor.string();
  if (code === arrayCode) return readArray(cursor, file);
  const scalar = scalarOf(code, cursor, file);
  return decoded(scalar.one(cursor.bytes(scalar.bytes)), cursor, file);
}

function readArray(cursor: GgufCursor, file: string): GgufValue {
  const code = cursor.u32();
  if (code === stringCode) return readStrings(cursor);
  const scalar = scalarOf(code, cursor, file);
  const count = cursor.count(scalar.bytes);
  return decoded(scalar.many(cursor.bytes(count * scalar.bytes)), cursor, file);
}

function readStrings(cursor: GgufCursor): readonly string[] {
  const strings = new Array<string>(cursor.count(8));
  for (let i = 0; i < strings.length; i++) strings[i] = cursor.string();
  return strings;
}

function scalarOf(code: number, cursor: GgufCursor, file: string): Scalar {
  const scalar = scalars.get(code);
  if (scalar !== undefined) return scalar;
  const fact = code === arrayCode ? "an array of arrays" : `unknown value type ${code}`;
  throw invalidCheckpoint({ file, offset: cursor.position - 4 }, `${cursor.what}: ${fact}`);
}

function decoded(value: GgufValue | undefined, cursor: GgufCursor, file: string): GgufValue {
  if (value !== undefined) return value;
  const place = { file, offset: cursor.position };
  throw invalidCheckpoint(place, `${cursor.what}: a boolean is neither 0 nor 1`);
}

/** Copied, because the window's bytes are neither aligned nor lasting. Hosts are little-endian. */
function copied<T>(bytes: Buffer, Type: new (buffer: ArrayBuffer) => T): T {
  return new Type(Uint8Array.from(bytes).buffer);
}

function booleans(bytes: Buffer): readonly boolean[] | undefined {
  return bytes.every((byte) => byte <= 1) ? Array.from(bytes, (byte) => byte === 1) : undefined;
}

function unsigned64(bytes: Buffer): readonly bigint[] {
  return Array.from(copied(bytes, BigUint64Array));
}

function signed64(bytes: Buffer): readonly bigint[] {
  return Array.from(copied(bytes, BigInt64Array));
}

function numberIfSafe(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
