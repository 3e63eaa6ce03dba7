import { closeSync, openSync, readSync } from "node:fs";

import type { Checkpoint, TensorEntry } from "../models/model-spec.ts";
import { invalidCheckpoint } from "./invalid-checkpoint.ts";

const maxBytes = 2 ** 16;

/**
 * The elements of a small F32 tensor that describes the model instead of being one of its weights,
 * such as the rope factors of a GGUF file.
 *
 * @throws EngineError CHECKPOINT_INVALID for another type, and beyond 64 KiB
 */
export function tensorFloats(checkpoint: Checkpoint, entry: TensorEntry): Float32Array {
  const file = checkpoint.files[entry.file] ?? "";
  const place = { file, tensor: entry.name, offset: entry.offset };
  if (entry.type !== "F32" || entry.byteLength > maxBytes) {
    const fact = `${entry.byteLength} bytes of ${entry.type} where at most ${maxBytes} of F32 belong`;
    throw invalidCheckpoint(place, fact);
  }
  const floats = new Float32Array(entry.byteLength / 4);
  const descriptor = openSync(file, "r");
  try {
    const count = readSync(descriptor, floats, 0, entry.byteLength, entry.offset);
    if (count !== entry.byteLength) throw invalidCheckpoint(place, `the file ends after ${count}`);
  } finally {
    closeSync(descriptor);
  }
  return floats;
}
