import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { HeaderSource } from "./header-source.ts";

/** Builders of checkpoint files for tests: valid ones, and ones that lie in one place. */

/** A folder that is deleted with its content when the caller's scope ends. */
export function temporaryFolder(): { readonly path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), "quire-checkpoint-"));
  return {
    path,
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}

/** Bytes in memory as the source of a header. */
export function sourceOf(bytes: Buffer, file = "/model"): HeaderSource {
  return {
    file,
    size: bytes.length,
    read(target, position) {
      if (position + target.length > bytes.length) throw new Error("read outside the file");
      bytes.copy(target, 0, position);
    },
  };
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

export function ggufString(text: string | Buffer): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([u64(bytes.length), bytes]);
}

/** The type number and the encoded value of one metadata key. */
export type EncodedValue = readonly [type: number, bytes: Buffer];

export function ggufArray(type: number, count: number | bigint, items: Buffer): EncodedValue {
  return [9, Buffer.concat([u32(type), u64(count), items])];
}

export interface GgufTensor {
  readonly name?: string;
  /** ggml's number. */
  readonly type?: number;
  /** As the file has it: innermost first. */
  readonly ne?: readonly (number | bigint)[];
  /** Into the data. */
  readonly offset?: number | bigint;
}

export interface GgufParts {
  readonly magic?: string;
  readonly version?: number;
  readonly metadata?: readonly (readonly [key: string | Buffer, value: EncodedValue])[];
  readonly metadataCount?: number | bigint;
  readonly tensors?: readonly GgufTensor[];
  readonly tensorCount?: number | bigint;
  readonly alignment?: number;
  readonly dataBytes?: number;
}

/** A GGUF file; the counts lie when they are given. */
export function aGguf(parts: GgufParts = {}): Buffer {
  const metadata = parts.metadata ?? [["general.architecture", [8, ggufString("llama")]]];
  const tensors = parts.tensors ?? [{}];
  const header = Buffer.concat([
    Buffer.from(parts.magic ?? "GGUF", "latin1"),
    u32(parts.version ?? 3),
    u64(parts.tensorCount ?? tensors.length),
    u64(parts.metadataCount ?? metadata.length),
    ...metadata.flatMap(([key, [type, bytes]]) => [ggufString(key), u32(type), bytes]),
    ...tensors.map(encodeTensor),
  ]);
  const padding = Buffer.alloc(-header.length & ((parts.alignment ?? 32) - 1));
  return Buffer.concat([header, padding, Buffer.alloc(parts.dataBytes ?? 256, 7)]);
}

function encodeTensor(tensor: GgufTensor): Buffer {
  const ne = tensor.ne ?? [32, 2];
  return Buffer.concat([
    ggufString(tensor.name ?? "token_embd.weight"),
    u32(ne.length),
    ...ne.map(u64),
    u32(tensor.type ?? 0),
    u64(tensor.offset ?? 0),
  ]);
}

/** A safetensors file of this header; `dataBytes` of data follow it. */
export function aSafetensors(header: object | string | Buffer, dataBytes = 16): Buffer {
  const isText = typeof header === "string" || Buffer.isBuffer(header);
  const json = Buffer.from(isText ? header : JSON.stringify(header));
  return Buffer.concat([u64(json.length), json, Buffer.alloc(dataBytes, 7)]);
}

/** Uniform in [0, 1), the same sequence for the same seed (mulberry32, Tommy Ettinger, 2017). */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
