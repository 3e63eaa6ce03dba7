import type { TensorEntry, WeightType } from "../models/model-spec.ts";
import { invalidCheckpoint, type Place, quote } from "./invalid-checkpoint.ts";

/** Elements and bytes of the smallest unit that a type is stored in. */
interface BlockLayout {
  readonly elements: number;
  readonly bytes: number;
}

/** Block layouts of ggml (`ggml-common.h`); plain types are blocks of one element. */
const blockLayouts: Record<WeightType, BlockLayout> = {
  F32: { elements: 1, bytes: 4 },
  F16: { elements: 1, bytes: 2 },
  BF16: { elements: 1, bytes: 2 },
  Q4_0: { elements: 32, bytes: 18 },
  Q4_1: { elements: 32, bytes: 20 },
  Q5_0: { elements: 32, bytes: 22 },
  Q5_1: { elements: 32, bytes: 24 },
  Q8_0: { elements: 32, bytes: 34 },
  Q4_K: { elements: 256, bytes: 144 },
  Q5_K: { elements: 256, bytes: 176 },
  Q6_K: { elements: 256, bytes: 210 },
};

/**
 * Bytes of a tensor of `shape` (outermost first), whose rows must be whole blocks.
 *
 * @throws EngineError CHECKPOINT_INVALID for an empty dimension, a row that is not a multiple of
 * the block, and a size beyond 2^53 - 1.
 */
export function tensorByteLength(type: WeightType, shape: readonly number[], place: Place): number {
  const { elements, bytes } = blockLayouts[type];
  const columns = shape.at(-1) ?? 1;
  if (columns % elements !== 0) {
    const fact = `rows of ${columns} elements are not whole ${type} blocks of ${elements}`;
    throw invalidCheckpoint(place, fact);
  }
  // Whole from the first factor on, because the innermost dimension is whole blocks. Such a product
  // is exact up to 2^53 and only grows beyond it, so the comparison holds even where it is rounded.
  let byteLength = bytes / elements;
  for (const dimension of shape.toReversed()) {
    if (dimension === 0) throw invalidCheckpoint(place, `shape [${shape}] has an empty dimension`);
    byteLength *= dimension;
    if (byteLength > Number.MAX_SAFE_INTEGER) {
      throw invalidCheckpoint(place, `shape [${shape}] is larger than any file`);
    }
  }
  return byteLength;
}

/**
 * Checks that the tensors of one file end inside it and share no byte.
 *
 * @returns them in the order of their offsets.
 * @throws EngineError CHECKPOINT_INVALID naming the first tensor at fault.
 */
export function checkRanges(
  tensors: readonly TensorEntry[],
  file: string,
  fileSize: number,
): TensorEntry[] {
  const inOrder = tensors.toSorted((a, b) => a.offset - b.offset);
  let previous: TensorEntry | undefined;
  for (const tensor of inOrder) {
    const place = { file, tensor: tensor.name, offset: tensor.offset };
    const end = tensor.offset + tensor.byteLength;
    if (end > fileSize) {
      const fact = `its ${tensor.byteLength} bytes end at byte ${end} of a file of ${fileSize}`;
      throw invalidCheckpoint(place, fact, "The file is truncated: download it again.");
    }
    if (previous !== undefined && previous.offset + previous.byteLength > tensor.offset) {
      throw invalidCheckpoint(place, `overlaps tensor ${quote(previous.name)}`);
    }
    previous = tensor;
  }
  return inOrder;
}
