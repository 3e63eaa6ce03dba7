import type { JsonValue, TensorEntry, WeightType } from "../models/model-spec.ts";
import type { HeaderSource } from "./header-source.ts";
import { invalidCheckpoint, type Place, quote } from "./invalid-checkpoint.ts";
import { isJsonObject, parseJsonObject } from "./json.ts";
import { checkRanges, tensorByteLength } from "./tensor-table.ts";

/** The format's own limit is 100 MB; 64 MiB are the names of half a million tensors. */
const maxHeaderBytes = 64 * 2 ** 20;
const maxDimensions = 8;
const lengthBytes = 8;

const supportedTypes: ReadonlyMap<JsonValue | undefined, WeightType> = new Map([
  ["F32", "F32"],
  ["F16", "F16"],
  ["BF16", "BF16"],
]);

/**
 * The tensors of one safetensors file, in the order of their offsets. The format: eight bytes of
 * length, a JSON object from name to type, shape and byte range, then the data without gaps.
 *
 * @param fileIndex becomes `TensorEntry.file`.
 * @throws EngineError CHECKPOINT_INVALID
 */
export function readSafetensors(source: HeaderSource, fileIndex: number): TensorEntry[] {
  const { file, size } = source;
  const header = readHeader(source);
  const dataStart = lengthBytes + header.length;

  const place = { file, offset: lengthBytes };
  const tensors: TensorEntry[] = [];
  for (const [name, value] of Object.entries(parseJsonObject(header, place, "unique"))) {
    if (name === "__metadata__") continue;
    tensors.push(parseTensor(name, value, fileIndex, dataStart, { file, tensor: name }));
  }

  const inOrder = checkRanges(tensors, file, size);
  checkNoGaps(inOrder, source, dataStart);
  return inOrder;
}

function readHeader(source: HeaderSource): Buffer {
  const place = { file: source.file, offset: 0 };
  if (source.size < lengthBytes) {
    throw invalidCheckpoint(place, `${source.size} bytes are too few for a safetensors file`);
  }
  const length = Buffer.alloc(lengthBytes);
  source.read(length, 0);
  const headerBytes = length.readBigUInt64LE();
  if (headerBytes > source.size - lengthBytes) {
    throw invalidCheckpoint(
      place,
      `a header of ${headerBytes} bytes does not fit in a file of ${source.size}`,
      "The file is truncated or not safetensors: download it again.",
    );
  }
  if (headerBytes > maxHeaderBytes) {
    throw invalidCheckpoint(
      place,
      `a header of ${headerBytes} bytes exceeds the limit of ${maxHeaderBytes}`,
    );
  }
  const header = Buffer.allocUnsafe(Number(headerBytes));
  source.read(header, lengthBytes);
  return header;
}

function parseTensor(
  name: string,
  value: JsonValue,
  fileIndex: number,
  dataStart: number,
  place: Place,
): TensorEntry {
  if (!isJsonObject(value)) throw invalidCheckpoint(place, "its header entry is not an object");

  const type = supportedTypes.get(value["dtype"]);
  if (type === undefined) {
    throw invalidCheckpoint(
      place,
      `type ${quote(String(value["dtype"]))} is not supported`,
      "Use a copy of the model in BF16, F16 or F32, or as a GGUF file.",
    );
  }
  const shape = integers(value["shape"], "shape", place);
  if (shape.length > maxDimensions) {
    throw invalidCheckpoint(place, `${shape.length} dimensions exceed ${maxDimensions}`);
  }
  const byteLength = tensorByteLength(type, shape, place);

  const [begin, end, ...rest] = integers(value["data_offsets"], "data_offsets", place);
  if (begin === undefined || end === undefined || rest.length > 0) {
    throw invalidCheckpoint(place, "data_offsets is not a pair of integers");
  }
  if (end - begin !== byteLength) {
    throw invalidCheckpoint(
      { ...place, offset: dataStart + begin },
      `data_offsets [${begin},${end}] hold ${end - begin} bytes, but ${type} of shape [${shape}] takes ${byteLength}`,
    );
  }
  return { name, type, shape, file: fileIndex, offset: dataStart + begin, byteLength };
}

function integers(value: JsonValue | undefined, what: string, place: Place): number[] {
  const isCount = (item: JsonValue): item is number =>
    Number.isSafeInteger(item) && Number(item) >= 0;
  if (Array.isArray(value) && value.every(isCount)) return value;
  throw invalidCheckpoint(place, `${what} is not a list of integers from 0 to 2^53 - 1`);
}

/** Bytes that no tensor owns mean that the file was cut, joined or appended to. */
function checkNoGaps(inOrder: readonly TensorEntry[], source: HeaderSource, start: number): void {
  let end = start;
  for (const tensor of inOrder) {
    if (tensor.offset !== end) {
      const place = { file: source.file, tensor: tensor.name, offset: end };
      throw invalidCheckpoint(place, `${tensor.offset - end} bytes before it belong to no tensor`);
    }
    end += tensor.byteLength;
  }
  if (end !== source.size) {
    const fact = `${source.size - end} bytes at the end belong to no tensor`;
    throw invalidCheckpoint({ file: source.file, offset: end }, fact);
  }
}
