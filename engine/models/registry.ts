import type { Architecture, BuildOptions } from "./decoder.ts";
import { type Fields, ggufFields, invalid, jsonFields, unsupported } from "./fields.ts";
import { gemma2, gemma3 } from "./gemma.ts";
import { granite } from "./granite.ts";
import { llama, mistral } from "./llama.ts";
import type { Checkpoint, Model, ModelSpec } from "./model-spec.ts";
import { phi3 } from "./phi.ts";
import { qwen2, qwen3 } from "./qwen.ts";
import { bindWeights } from "./weights.ts";

const architectures: readonly Architecture[] = [
  llama,
  mistral,
  qwen2,
  qwen3,
  granite,
  gemma2,
  gemma3,
  phi3,
];

/** Names that `buildModel` knows: Hugging Face's classes. */
export const supportedArchitectures: readonly string[] = architectures.map(({ name }) => name);

/**
 * The model that a checkpoint describes, with every tensor found and checked. Reads no file.
 *
 * @throws EngineError MODEL_UNSUPPORTED for an architecture or a feature that is not known,
 *   CHECKPOINT_INVALID for a description or a tensor that is missing or contradicts the rest
 */
export function buildModel(checkpoint: Checkpoint, options: BuildOptions = {}): Model {
  const { spec, architecture, tied } =
    checkpoint.source.format === "gguf"
      ? describeGguf(checkpoint, checkpoint.source.metadata, options)
      : describeConfig(jsonFields("config.json", checkpoint.source.config), options);
  checkSpec(spec);
  const weights = bindWeights(checkpoint, spec, architecture.layout, tied);
  return { spec, weights, files: checkpoint.files };
}

function describeConfig(config: Fields, options: BuildOptions) {
  const architecture = byConfig(config);
  return {
    architecture,
    spec: architecture.specFromConfig({ config, options }),
    tied: config.flag("tie_word_embeddings", architecture.tiedByDefault),
  };
}

function describeGguf(
  checkpoint: Checkpoint,
  metadata: Parameters<typeof ggufFields>[0],
  options: BuildOptions,
) {
  const name = ggufFields(metadata, "general.").text("architecture");
  const architecture = architectures.find(({ ggufName }) => ggufName === name);
  if (architecture === undefined) {
    const known = architectures.flatMap(({ ggufName }) => ggufName ?? []);
    throw unknownArchitecture(name, known);
  }
  const fields = ggufFields(metadata, `${name}.`);
  const { tensors } = checkpoint;
  const spec = architecture.specFromGguf({ fields, metadata, tensors, options });
  return { architecture, spec, tied: undefined };
}

/** `architectures` names the class; `model_type` decides where it is absent. */
function byConfig(config: Fields): Architecture {
  const name = config.has("architectures") ? config.texts("architectures")[0] : undefined;
  const modelType = config.text("model_type", "");
  const found = architectures.find((architecture) =>
    name === undefined ? architecture.modelType === modelType : architecture.name === name,
  );
  if (found === undefined) throw unknownArchitecture(name ?? modelType, supportedArchitectures);
  return found;
}

function unknownArchitecture(name: string, known: readonly string[]) {
  return unsupported(
    `The architecture "${name}" is not supported`,
    `Use a model of one of these: ${known.join(", ")}.`,
  );
}

function checkSpec(spec: ModelSpec): void {
  if (spec.headCount % spec.kvHeadCount !== 0) {
    throw invalid(`${spec.headCount} heads cannot share ${spec.kvHeadCount} key-value heads`);
  }
  if (!Number.isInteger(spec.headDim) || spec.headDim % 2 !== 0) {
    throw invalid(`Heads of ${spec.headDim} elements cannot be rotated in pairs`);
  }
}
