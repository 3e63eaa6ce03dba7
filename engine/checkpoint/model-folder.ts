import { join } from "node:path";

import type { Checkpoint, JsonObject, JsonValue, TensorEntry } from "../models/model-spec.ts";
import { readSmallFile, utf8Text, withHeaderSource } from "./header-source.ts";
import { invalidCheckpoint, quote } from "./invalid-checkpoint.ts";
import { isJsonObject, parseJsonObject } from "./json.ts";
import { readSafetensors } from "./safetensors.ts";

const maxConfigBytes = 16 * 2 ** 20;
/** Eight times Gemma's, the longest of the well-known ones. */
const maxTokenizerBytes = 256 * 2 ** 20;
const maxIndexBytes = 64 * 2 ** 20;
const maxShards = 4096;

const singleFile = "model.safetensors";
const indexFile = "model.safetensors.index.json";

interface WeightFiles {
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

/**
 * A folder as Hugging Face lays it out. Symbolic links are followed: its cache is made of them.
 *
 * @param names the entries of `folder`.
 * @throws EngineError CHECKPOINT_INVALID
 */
export function readModelFolder(folder: string, names: readonly string[]): Checkpoint {
  const config = required(readJson(folder, "config.json"), folder, "config.json");
  const tokenizer = readSmallFile(join(folder, "tokenizer.json"), maxTokenizerBytes);
  const tokenizerConfig = readJson(folder, "tokenizer_config.json");
  return {
    ...readWeightFiles(folder, names),
    source: {
      format: "safetensors",
      config,
      generationConfig: readJson(folder, "generation_config.json"),
      tokenizerJson: utf8Text(
        required(tokenizer, folder, "tokenizer.json"),
        join(folder, "tokenizer.json"),
      ),
      tokenizerConfig,
      chatTemplate: readChatTemplate(folder, tokenizerConfig),
    },
  };
}

function readWeightFiles(folder: string, names: readonly string[]): WeightFiles {
  if (!names.includes(singleFile) && names.includes(indexFile)) return readShards(folder);

  const candidates = names.filter((name) => name.endsWith(".safetensors"));
  const name = names.includes(singleFile) ? singleFile : candidates[0];
  if (name === undefined || (name !== singleFile && candidates.length > 1)) {
    const fact = `${candidates.length} safetensors files, but no ${indexFile} that joins them`;
    throw invalidCheckpoint({ file: folder }, fact);
  }
  const file = join(folder, name);
  const tensors = withHeaderSource(file, (source) => readSafetensors(source, 0));
  return { files: [file], tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])) };
}

/** The index decides which shard a tensor is read from; a shard may hold more than it is asked. */
function readShards(folder: string): WeightFiles {
  const shardOf = readIndex(folder);
  const shards = [...new Set(shardOf.values())].toSorted();
  if (shards.length > maxShards) {
    const fact = `${shards.length} shards exceed the limit of ${maxShards}`;
    throw invalidCheckpoint({ file: join(folder, indexFile) }, fact);
  }
  const files = shards.map((shard) => join(folder, shard));
  const tensors = new Map<string, TensorEntry>();
  for (const [index, file] of files.entries()) {
    for (const tensor of withHeaderSource(file, (source) => readSafetensors(source, index))) {
      if (shardOf.get(tensor.name) === shards[index]) tensors.set(tensor.name, tensor);
    }
  }
  for (const [tensor, shard] of shardOf) {
    if (tensors.has(tensor)) continue;
    const place = { file: join(folder, shard), tensor };
    throw invalidCheckpoint(place, `not in the file that ${indexFile} names`);
  }
  return { files, tensors };
}

/** @returns the name of the shard of each tensor. */
function readIndex(folder: string): ReadonlyMap<string, string> {
  const file = join(folder, indexFile);
  const bytes = required(readSmallFile(file, maxIndexBytes), folder, indexFile);
  const weightMap = parseJsonObject(bytes, { file }, "unique")["weight_map"];
  if (!isJsonObject(weightMap)) throw invalidCheckpoint({ file }, "weight_map is not an object");

  const shardOf = new Map<string, string>();
  for (const [tensor, shard] of Object.entries(weightMap)) {
    if (!isPlainFileName(shard)) {
      const fact = `its shard ${quote(String(shard))} is not the name of a safetensors file beside the index`;
      throw invalidCheckpoint({ file, tensor }, fact);
    }
    shardOf.set(tensor, shard);
  }
  return shardOf;
}

/** No separators, so that an index cannot point outside its folder. */
function isPlainFileName(shard: JsonValue): shard is string {
  return typeof shard === "string" && /^[^/\\\0]+\.safetensors$/.test(shard);
}

function readJson(folder: string, name: string): JsonObject | undefined {
  const file = join(folder, name);
  const bytes = readSmallFile(file, maxConfigBytes);
  return bytes === undefined ? undefined : parseJsonObject(bytes, { file });
}

function required<T>(value: T | undefined, folder: string, name: string): T {
  if (value !== undefined) return value;
  throw invalidCheckpoint(
    { file: folder },
    `${name} is missing`,
    `Add ${name} as the model's publisher provides it, or use a GGUF file of the model.`,
  );
}

function readChatTemplate(
  folder: string,
  tokenizerConfig: JsonObject | undefined,
): string | undefined {
  const file = join(folder, "chat_template.jinja");
  const bytes = readSmallFile(file, maxConfigBytes);
  if (bytes !== undefined) return utf8Text(bytes, file);
  return templateOf(tokenizerConfig?.["chat_template"]);
}

/** A string, or a list of named templates of which one is called `default`. */
function templateOf(value: JsonValue | undefined): string | undefined {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return undefined;
  const named = value.find((item) => isJsonObject(item) && item["name"] === "default");
  const template = isJsonObject(named) ? named["template"] : undefined;
  return typeof template === "string" ? template : undefined;
}
