/** A copy of a GGUF model with its quantised matrices as bfloat16, for comparing engines on both. */
import { closeSync, existsSync, mkdirSync, openSync, readSync } from "node:fs";
import path from "node:path";
import { readGguf } from "../checkpoint/gguf.ts";
import { GgufCursor } from "../checkpoint/gguf-cursor.ts";
import { readMetadata } from "../checkpoint/gguf-metadata.ts";
import { withHeaderSource } from "../checkpoint/header-source.ts";
import type { TensorEntry } from "../models/model-spec.ts";
import { type GgufPairs, type GgufTensorPlan, writeGguf } from "./gguf-writer.ts";

/** Bytes of a header before its key-value pairs: magic, version and two counts. */
const fixedBytes = 4 + 4 + 8 + 8;

/**
 * Writes the copy into `directory` if it is not there yet.
 *
 * @throws Error for a type of weights that it does not decode
 */
export function bf16Copy(source: string, directory: string): string {
  const target = path.join(directory, `${path.basename(source, ".gguf")}.bf16.gguf`);
  if (existsSync(target)) return target;
  mkdirSync(directory, { recursive: true });
  const { tensors } = withHeaderSource(source, readGguf);
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const plans = tensors.map(
    ({ name, type, shape }): GgufTensorPlan => ({
      ...{ name, shape },
      type: type === "F32" ? "F32" : "BF16",
    }),
  );
  const descriptor = openSync(source, "r");
  try {
    writeGguf(target, pairsOf(source), plans, ({ name }) => {
      const entry = byName.get(name);
      if (entry === undefined) throw new Error(`${source} has no ${name}`);
      return converted(entry, bytesOf(descriptor, entry));
    });
  } finally {
    closeSync(descriptor);
  }
  return target;
}

/** The metadata as it lies in the file, tokenizer and all. */
function pairsOf(file: string): GgufPairs {
  return withHeaderSource(file, (source) => {
    const cursor = new GgufCursor(source);
    cursor.bytes(fixedBytes - 8);
    const { size: count } = readMetadata(cursor, file);
    const bytes = Buffer.alloc(cursor.position - fixedBytes);
    source.read(bytes, fixedBytes);
    return { count, bytes };
  });
}

function bytesOf(descriptor: number, { name, offset, byteLength }: TensorEntry): Buffer {
  const bytes = Buffer.alloc(byteLength);
  const count = readSync(descriptor, bytes, 0, byteLength, offset);
  if (count !== byteLength) throw new Error(`${name}: ${count} of ${byteLength} bytes`);
  return bytes;
}

function converted(entry: TensorEntry, bytes: Buffer): Uint8Array {
  if (entry.type === "F32") return bytes;
  if (entry.type === "Q4_1") return toBf16(bytes, 20, decodeQ41);
  if (entry.type === "Q8_0") return toBf16(bytes, 34, decodeQ80);
  throw new Error(`${entry.name}: ${entry.type} is not decoded here, only Q4_1, Q8_0 and F32`);
}

const blockSize = 32;

function toBf16(
  bytes: Buffer,
  blockBytes: number,
  decode: (block: Buffer, values: Float32Array) => void,
): Uint8Array {
  const values = new Float32Array(blockSize);
  const bits = new Uint32Array(values.buffer);
  const rounded = new Uint16Array((bytes.length / blockBytes) * blockSize);
  for (let block = 0; block < bytes.length / blockBytes; block++) {
    decode(bytes.subarray(block * blockBytes, (block + 1) * blockBytes), values);
    for (let i = 0; i < blockSize; i++) {
      const word = bits[i] as number;
      // To the nearest, and to even between two.
      rounded[block * blockSize + i] = (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
    }
  }
  return new Uint8Array(rounded.buffer);
}

/** float16 scale and minimum, then 16 bytes: low halves are the first 16 values. */
function decodeQ41(block: Buffer, values: Float32Array): void {
  const scale = float16(block.readUInt16LE(0));
  const minimum = float16(block.readUInt16LE(2));
  for (let i = 0; i < blockSize / 2; i++) {
    const pair = block[4 + i] as number;
    values[i] = scale * (pair & 15) + minimum;
    values[i + blockSize / 2] = scale * (pair >> 4) + minimum;
  }
}

/** float16 scale, then 32 signed bytes. */
function decodeQ80(block: Buffer, values: Float32Array): void {
  const scale = float16(block.readUInt16LE(0));
  for (let i = 0; i < blockSize; i++) values[i] = scale * block.readInt8(2 + i);
}

function float16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}
