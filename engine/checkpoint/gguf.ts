import type { GgufValue, TensorEntry, WeightType } from "../models/model-spec.ts";
import { GgufCursor } from "./gguf-cursor.ts";
import { readMetadata } from "./gguf-metadata.ts";
import type { HeaderSource } from "./header-source.ts";
import { invalidCheckpoint, type Place, quote } from "./invalid-checkpoint.ts";
import { checkRanges, tensorByteLength } from "./tensor-table.ts";

/** The four characters that a GGUF file begins with. */
export const ggufMagic = "GGUF";

export interface Gguf {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly TensorEntry[];
}

const defaultAlignment = 32;
const maxAlignment = 65_536;
const maxDimensions = 4;
const maxTensors = 262_144;
/** A name of no characters, one dimension. */
const minTensorBytes = 8 + 4 + 8 + 4 + 8;

/** ggml's type numbers (`ggml.h`), those that a device computes with. */
const weightTypes: ReadonlyMap<number, WeightType> = new Map([
  [0, "F32"],
  [1, "F16"],
  [2, "Q4_0"],
  [3, "Q4_1"],
  [6, "Q5_0"],
  [7, "Q5_1"],
  [8, "Q8_0"],
  [12, "Q4_K"],
  [13, "Q5_K"],
  [14, "Q6_K"],
  [30, "BF16"],
]);

/** The others, so that an error can say what the file holds. */
const otherTypeNames: ReadonlyMap<number, string> = new Map([
  [9, "Q8_1"],
  [10, "Q2_K"],
  [11, "Q3_K"],
  [15, "Q8_K"],
  [16, "IQ2_XXS"],
  [17, "IQ2_XS"],
  [18, "IQ3_XXS"],
  [19, "IQ1_S"],
  [20, "IQ4_NL"],
  [21, "IQ3_S"],
  [22, "IQ2_S"],
  [23, "IQ4_XS"],
  [24, "I8"],
  [25, "I16"],
  [26, "I32"],
  [27, "I64"],
  [28, "F64"],
  [29, "IQ1_M"],
  [34, "TQ1_0"],
  [35, "TQ2_0"],
  [39, "MXFP4"],
]);

/**
 * Metadata and tensors of one GGUF file of version 2 or 3, the tensors in the order of their
 * offsets. A file without tensors (a vocabulary alone) is valid. The format is specified in ggml's
 * `docs/gguf.md`.
 *
 * @throws EngineError CHECKPOINT_INVALID
 */
export function readGguf(source: HeaderSource): Gguf {
  const { file, size } = source;
  const cursor = new GgufCursor(source);
  readMagicAndVersion(cursor, file);

  cursor.what = "the number of tensors";
  const tensorCount = cursor.count(minTensorBytes, maxTensors);
  const metadata = readMetadata(cursor, file);
  refuseSplitFiles(metadata, file);

  const entries = Array.from({ length: tensorCount }, () => readTensor(cursor, file));
  const alignment = alignmentOf(metadata, file);
  const dataStart = Math.ceil(cursor.position / alignment) * alignment;
  const tensors = entries.map((entry) => place(entry, dataStart, alignment, file));
  refuseRepeatedNames(tensors, file);
  return { metadata, tensors: checkRanges(tensors, file, size) };
}

function readMagicAndVersion(cursor: GgufCursor, file: string): void {
  if (cursor.bytes(4).toString("latin1") !== ggufMagic) {
    const remedy = "Name a GGUF file, or the folder of a model in safetensors.";
    throw invalidCheckpoint({ file, offset: 0 }, "not a GGUF file", remedy);
  }
  const version = cursor.u32();
  if (version === 2 || version === 3) return;
  const swapped = version === 0x02000000 || version === 0x03000000;
  throw invalidCheckpoint(
    { file, offset: 4 },
    swapped ? "a big-endian GGUF file" : `GGUF version ${version}`,
    "Convert the model to little-endian GGUF version 3.",
  );
}

/** As the file says it: the offset counts from the start of the data. */
function readTensor(cursor: GgufCursor, file: string): TensorEntry {
  cursor.what = "a tensor's name";
  const name = cursor.string();
  cursor.what = `tensor ${quote(name)}`;
  const where = { file, tensor: name, offset: cursor.position };

  const dimensionCount = cursor.u32();
  if (dimensionCount === 0 || dimensionCount > maxDimensions) {
    throw invalidCheckpoint(where, `${dimensionCount} dimensions are not 1 to ${maxDimensions}`);
  }
  const shape = Array.from({ length: dimensionCount }, () => cursor.u64()).reverse();
  const type = weightType(cursor.u32(), where);
  const offset = cursor.u64();
  return { name, type, shape, file: 0, offset, byteLength: tensorByteLength(type, shape, where) };
}

function weightType(code: number, where: Place): WeightType {
  const type = weightTypes.get(code);
  if (type !== undefined) return type;
  throw invalidCheckpoint(
    where,
    `type ${otherTypeNames.get(code) ?? code} is not supported`,
    `Use a copy of the model in one of ${[...weightTypes.values()].join(", ")}.`,
  );
}

function place(
  entry: TensorEntry,
  dataStart: number,
  alignment: number,
  file: string,
): TensorEntry {
  if (entry.offset % alignment !== 0) {
    const fact = `offset ${entry.offset} into the data is not a multiple of ${alignment}`;
    throw invalidCheckpoint({ file, tensor: entry.name }, fact);
  }
  return { ...entry, offset: dataStart + entry.offset };
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>, file: string): number {
  const alignment = metadata.get("general.alignment") ?? defaultAlignment;
  if (typeof alignment !== "number") {
    throw invalidCheckpoint({ file }, "general.alignment is not a number");
  }
  if (!Number.isInteger(Math.log2(alignment)) || alignment < 1 || alignment > maxAlignment) {
    const fact = `general.alignment ${alignment} is not a power of two up to ${maxAlignment}`;
    throw invalidCheckpoint({ file }, fact);
  }
  return alignment;
}

function refuseSplitFiles(metadata: ReadonlyMap<string, GgufValue>, file: string): void {
  const count = metadata.get("split.count");
  if (typeof count !== "number" || count <= 1) return;
  throw invalidCheckpoint(
    { file },
    `one of ${count} parts of a model`,
    "Join the parts with `llama-gguf-split --merge` and name the joined file.",
  );
}

function refuseRepeatedNames(tensors: readonly TensorEntry[], file: string): void {
  const names = new Set<string>();
  for (const { name } of tensors) {
    if (names.has(name)) throw invalidCheckpoint({ file, tensor: name }, "its name is repeated");
    names.add(name);
  }
}
