import { readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";

import type { Checkpoint, TensorEntry } from "../models/model-spec.ts";
import { readGguf } from "./gguf.ts";
import { unreadable, withHeaderSource } from "./header-source.ts";
import { invalidCheckpoint, quote } from "./invalid-checkpoint.ts";
import { readModelFolder } from "./model-folder.ts";

/**
 * Reads what the files of a model say, and none of its weights. Everything in them is untrusted:
 * each count is compared with the bytes that are there before memory is taken for it.
 *
 * @param path a GGUF file, a folder with exactly one of them, or a folder as Hugging Face lays it
 * out: `config.json`, `tokenizer.json` and safetensors, sharded or not.
 * @throws EngineError CHECKPOINT_INVALID naming file, tensor and offset.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const absolute = resolve(path);
  const names = entriesOf(absolute);
  if (names === undefined) return openGguf(absolute);
  if (names.some((name) => name.endsWith(".safetensors"))) return readModelFolder(absolute, names);
  return openGguf(join(absolute, onlyGguf(absolute, names)));
}

/** @returns the names in a folder, undefined for anything else that is there. */
function entriesOf(path: string): readonly string[] | undefined {
  try {
    return statSync(path).isDirectory() ? readdirSync(path) : undefined;
  } catch (error) {
    throw error instanceof Error ? unreadable(path, error) : error;
  }
}

function openGguf(file: string): Checkpoint {
  if (file.endsWith(".safetensors")) {
    const remedy = "Name the folder, which holds config.json and the tokenizer as well.";
    throw invalidCheckpoint({ file }, "weights without the rest of their model", remedy);
  }
  const { metadata, tensors } = withHeaderSource(file, readGguf);
  return { files: [file], tensors: byName(tensors), source: { format: "gguf", metadata } };
}

function onlyGguf(folder: string, names: readonly string[]): string {
  const candidates = names.filter((name) => name.toLowerCase().endsWith(".gguf")).toSorted();
  const [only, ...others] = candidates;
  if (only !== undefined && others.length === 0) return only;
  throw only === undefined
    ? invalidCheckpoint(
        { file: folder },
        "no *.safetensors and no *.gguf in this folder",
        "Name the folder of a model in safetensors or GGUF; pickled PyTorch weights are not read.",
      )
    : invalidCheckpoint(
        { file: folder },
        `${candidates.length} GGUF files: ${candidates.slice(0, 8).map(quote).join(", ")}`,
        "Name one of the files instead of the folder.",
      );
}

function byName(tensors: readonly TensorEntry[]): ReadonlyMap<string, TensorEntry> {
  return new Map(tensors.map((tensor) => [tensor.name, tensor]));
}
