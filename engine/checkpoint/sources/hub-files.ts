import type { HubFile } from "./hub-api.ts";
import { type HubSource, isFileName } from "./hub-uri.ts";
import { sourceFailed } from "./resolve-options.ts";

const shardPattern = /^model-\d+-of-\d+\.safetensors$/;
const singleFile = "model.safetensors";

/**
 * Which files of a repository make the model: safetensors with the JSON and templates beside them,
 * or else its only GGUF file. Other formats, and a second copy of the weights, stay where they are.
 *
 * @param listed the files of the root, or of the folder of the file that `source` names.
 * @throws EngineError MODEL_SOURCE_FAILED
 */
export function selectFiles(source: HubSource, listed: readonly HubFile[]): readonly HubFile[] {
  if (source.path !== undefined) return [namedFile(source, source.path, listed)];

  const files = listed.filter((file) => isFileName(file.path));
  const weights = selectWeights(files);
  if (weights.length === 0) return [onlyGguf(source, files)];
  const texts = files.filter((file) => /\.(json|jinja)$/.test(file.path));
  return [...texts, ...weights];
}

/** As transformers chooses: one file, else the shards, else whatever safetensors there are. */
function selectWeights(files: readonly HubFile[]): readonly HubFile[] {
  const safetensors = files.filter((file) => file.path.endsWith(".safetensors"));
  const single = safetensors.filter((file) => file.path === singleFile);
  if (single.length > 0) return single;
  const shards = safetensors.filter((file) => shardPattern.test(file.path));
  return shards.length > 0 ? shards : safetensors;
}

function namedFile(source: HubSource, path: string, listed: readonly HubFile[]): HubFile {
  const file = listed.find((candidate) => candidate.path === path);
  if (file !== undefined) return file;
  const remedy = `Name one of its GGUF files: ${names(ggufs(listed)) || "there are none"}.`;
  throw sourceFailed(`hf://${source.repo} has no ${path}`, remedy);
}

function onlyGguf(source: HubSource, files: readonly HubFile[]): HubFile {
  const [only, ...others] = ggufs(files);
  if (only !== undefined && others.length === 0) return only;
  throw only === undefined
    ? sourceFailed(
        `hf://${source.repo} has neither safetensors nor a GGUF file`,
        "Use a copy of the model in safetensors or GGUF.",
      )
    : sourceFailed(
        `hf://${source.repo} has ${others.length + 1} GGUF files`,
        `Name one, as in hf://${source.repo}/${only.path}; it has ${names([only, ...others])}.`,
      );
}

function ggufs(files: readonly HubFile[]): readonly HubFile[] {
  return files.filter((file) => file.path.toLowerCase().endsWith(".gguf"));
}

function names(files: readonly HubFile[]): string {
  const shown = files.slice(0, 12).map((file) => file.path);
  return files.length > shown.length ? `${shown.join(", ")}, ...` : shown.join(", ");
}
