/** Writes the GGUF files that benchmarks compute with; the format is ggml's `docs/gguf.md`. */
import { closeSync, openSync, renameSync, writeSync } from "node:fs";

/** ggml's numbers of the types that are written. */
const typeCodes = { F32: 0, BF16: 30 } as const;
const elementBytes = { F32: 4, BF16: 2 } as const;
const version = 3;
const alignment = 32;

export interface GgufTensorPlan {
  readonly name: string;
  readonly type: keyof typeof typeCodes;
  /** Outermost first. */
  readonly shape: readonly number[];
}

/** Key-value pairs as they lie in a file. */
export interface GgufPairs {
  readonly count: number;
  readonly bytes: Buffer;
}

/**
 * Writes beside `file` and renames at the end, so that a file that is there is whole.
 *
 * @param contents bytes of one tensor; called once for each, in order
 */
export function writeGguf(
  file: string,
  pairs: GgufPairs,
  tensors: readonly GgufTensorPlan[],
  contents: (tensor: GgufTensorPlan) => Uint8Array,
): void {
  const partial = `${file}.${process.pid}.partial`;
  const descriptor = openSync(partial, "w");
  try {
    writeAll(descriptor, padded(headerOf(pairs, tensors)));
    for (const tensor of tensors) {
      const bytes = contents(tensor);
      if (bytes.length !== byteLengthOf(tensor)) {
        throw new Error(`${tensor.name}: ${bytes.length} bytes are not ${byteLengthOf(tensor)}`);
      }
      writeAll(descriptor, padded(bytes));
    }
  } finally {
    closeSync(descriptor);
  }
  renameSync(partial, file);
}

/** Strings as they are, whole numbers as UINT32, and `{ float32 }`. */
export function encodePairs(
  pairs: readonly (readonly [string, string | number | { readonly float32: number }])[],
): GgufPairs {
  const bytes = pairs.flatMap(([key, value]) => {
    if (typeof value === "string") return [textOf(key), u32(8), textOf(value)];
    if (typeof value === "number") return [textOf(key), u32(4), u32(value)];
    const float = Buffer.alloc(4);
    float.writeFloatLE(value.float32);
    return [textOf(key), u32(6), float];
  });
  return { count: pairs.length, bytes: Buffer.concat(bytes) };
}

function headerOf(pairs: GgufPairs, tensors: readonly GgufTensorPlan[]): Buffer {
  const head = [Buffer.from("GGUF"), u32(version), u64(tensors.length), u64(pairs.count)];
  let offset = 0;
  const infos = tensors.map((tensor) => {
    const { name, type, shape } = tensor;
    const sizes = shape.toReversed().map(u64);
    const info = [textOf(name), u32(shape.length), ...sizes, u32(typeCodes[type]), u64(offset)];
    offset += Math.ceil(byteLengthOf(tensor) / alignment) * alignment;
    return Buffer.concat(info);
  });
  return Buffer.concat([...head, pairs.bytes, ...infos]);
}

function byteLengthOf({ type, shape }: GgufTensorPlan): number {
  return elementBytes[type] * shape.reduce((product, size) => product * size, 1);
}

function padded(bytes: Uint8Array): Uint8Array {
  const padding = -bytes.length & (alignment - 1);
  return padding === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(padding)]);
}

function writeAll(descriptor: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
}

function textOf(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
