import { type Fields, ggufTokenCount, invalid, unsupported } from "./fields.ts";
import type {
  Checkpoint,
  GgufValue,
  LayerSpec,
  ModelSpec,
  Rope,
  TensorEntry,
} from "./model-spec.ts";
import { configRope, dividedRope, linearRope, plainRope } from "./rope.ts";

/** Which of the optional tensors a layer has, and how they are named. */
export interface TensorLayout {
  /** Biases of query, key and value (Qwen 2). */
  readonly attentionBias: boolean;
  readonly queryKeyNorm: boolean;
  /** Norms after attention and after the MLP (Gemma 2 and 3). */
  readonly postNorms: boolean;
  /** One tensor for query, key and value, one for gate and up (Phi 3). */
  readonly fused: boolean;
}

export const plainLayout: TensorLayout = {
  attentionBias: false,
  queryKeyNorm: false,
  postNorms: false,
  fused: false,
};

export interface BuildOptions {
  /** Longest request that will be served, in tokens; the checkpoint's context when absent. */
  readonly maxModelLen?: number;
  /** Elements of a small F32 tensor: the rope factors that GGUF files keep as tensors. */
  readonly readFloats?: (entry: TensorEntry) => Float32Array;
}

/** A `config.json` and what building from it depends on. */
export interface ConfigSource {
  readonly config: Fields;
  readonly options: BuildOptions;
}

/** GGUF metadata below the architecture's prefix. */
export interface GgufSource {
  readonly fields: Fields;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: Checkpoint["tensors"];
  readonly options: BuildOptions;
}

/** One family of models: a row of the registry. */
export interface Architecture {
  /** Hugging Face's class name. */
  readonly name: string;
  /** `model_type` of `config.json`, which decides where `architectures` is absent. */
  readonly modelType: string;
  /** `general.architecture`; undefined where GGUF has no such name. */
  readonly ggufName: string | undefined;
  readonly layout: TensorLayout;
  readonly tiedByDefault: boolean;
  specFromConfig(source: ConfigSource): ModelSpec;
  specFromGguf(source: GgufSource): ModelSpec;
}

/**
 * A Llama-like spec from `config.json`: silu, one rope for all layers, full attention. Families
 * replace what differs.
 */
export function specFromConfig(
  { config, options }: ConfigSource,
  name: string,
  activation: ModelSpec["activation"] = "silu",
): ModelSpec {
  refuseInConfig(config);
  requireActivation(config, activation);
  const hiddenSize = config.count("hidden_size");
  const headCount = config.count("num_attention_heads");
  const headDim = config.count("head_dim", hiddenSize / headCount);
  const contextLength = config.count("max_position_embeddings");
  const rope = ropeFields(config);
  const original = "original_max_position_embeddings";
  return {
    ...llamaDefaults(headDim, config.count("num_hidden_layers")),
    architecture: name,
    vocabSize: config.count("vocab_size"),
    hiddenSize,
    headCount,
    kvHeadCount: config.count("num_key_value_heads", headCount),
    headDim,
    ffnSize: config.count("intermediate_size"),
    contextLength,
    normEpsilon: config.number("rms_norm_eps"),
    activation,
    ropes: [
      configRope(rope.base, rope.scaling, {
        dimensions: rotatedDimensions(headDim, rope.partialFactor),
        contextLength,
        maxModelLen: options.maxModelLen ?? contextLength,
        ...(config.has(original) ? { originalContextLength: config.count(original) } : {}),
      }),
    ],
  };
}

/** The same from GGUF metadata. */
export function specFromGguf(source: GgufSource, name: string): ModelSpec {
  const { fields, metadata } = source;
  if (fields.number("expert_count", 0) > 0) {
    throw unsupported(
      `The GGUF file is a mixture of ${fields.number("expert_count")} experts`,
      "Use a dense model: mixtures of experts are not supported.",
    );
  }
  const hiddenSize = fields.count("embedding_length");
  const headCount = fields.count("attention.head_count");
  const headDim = fields.count("attention.key_length", hiddenSize / headCount);
  if (fields.count("attention.value_length", headDim) !== headDim) {
    throw unsupported(
      `Keys of ${headDim} and values of ${fields.count("attention.value_length")} elements differ`,
      "Use a model whose key and value heads have one size.",
    );
  }
  return {
    ...llamaDefaults(headDim, fields.count("block_count")),
    architecture: name,
    vocabSize: ggufVocabSize(source, metadata),
    hiddenSize,
    headCount,
    kvHeadCount: fields.count("attention.head_count_kv", headCount),
    headDim,
    ffnSize: fields.count("feed_forward_length"),
    contextLength: fields.count("context_length"),
    normEpsilon: fields.number("attention.layer_norm_rms_epsilon"),
    ropes: [ggufRope(source, headDim)],
  };
}

/** `count` layers of one kind. */
export function sameLayers(count: number, window: number): readonly LayerSpec[] {
  return Array.from({ length: count }, () => ({ window, rope: 0 }));
}

/** `sliding_window`, or 0 when it is absent. */
export function configWindow(config: Fields): number {
  return config.has("sliding_window") ? config.count("sliding_window") : 0;
}

/** Whether each layer has a sliding window, from `layer_types` of `config.json`. */
export function slidingLayers(config: Fields): readonly boolean[] {
  const types = config.texts("layer_types");
  if (types.length !== config.count("num_hidden_layers")) {
    throw invalid(
      `${config.label} lists ${types.length} layer types for ` +
        `${config.count("num_hidden_layers")} layers`,
    );
  }
  return types.map((type) => {
    if (type === "sliding_attention") return true;
    if (type === "full_attention") return false;
    throw unsupported(
      `The attention type "${type}" is not supported`,
      "Use a model whose layers have full_attention or sliding_attention.",
    );
  });
}

/**
 * Where Transformers keeps the rope: `rope_theta` and `rope_scaling` in version 4,
 * `rope_parameters` in version 5, there by type of layer where types differ.
 */
function ropeFields(config: Fields): {
  readonly base: number;
  readonly scaling: Fields | undefined;
  readonly partialFactor: number;
} {
  const all = config.child("rope_parameters");
  const parameters = all?.child("full_attention") ?? all;
  const base = config.number("rope_theta", parameters?.number("rope_theta", 10_000) ?? 10_000);
  const factor = "partial_rotary_factor";
  return {
    base,
    scaling: parameters ?? config.child("rope_scaling"),
    partialFactor: config.number(factor, parameters?.number(factor, 1) ?? 1),
  };
}

function rotatedDimensions(headDim: number, partialFactor: number): number {
  const dimensions = Math.trunc(headDim * partialFactor);
  if (dimensions < 2 || dimensions > headDim || dimensions % 2 !== 0) {
    throw unsupported(
      `Rope over ${dimensions} of ${headDim} elements of a head is not supported`,
      "Use a model that rotates an even number of elements, at least 2.",
    );
  }
  return dimensions;
}

function llamaDefaults(headDim: number, layerCount: number) {
  return {
    normOffset: 0,
    activation: "silu",
    ropeLayout: "halves",
    layers: sameLayers(layerCount, 0),
    embeddingScale: 1,
    attentionScale: headDim ** -0.5,
    residualScale: 1,
    logitScale: 1,
    attentionSoftcap: 0,
    logitSoftcap: 0,
  } as const;
}

function refuseInConfig(config: Fields): void {
  const quantization = config.child("quantization_config");
  if (quantization !== undefined) {
    const method = quantization.text("quant_method", "unnamed");
    throw unsupported(
      `The checkpoint is quantised by "${method}", which is not supported`,
      "Use the model's bfloat16 checkpoint, or a GGUF file of it.",
    );
  }
  if (config.flag("attention_bias", false) && config.text("model_type", "") !== "qwen2") {
    throw unsupported(
      'The checkpoint has "attention_bias", which adds a bias to the attention\'s output',
      "Use a model without attention_bias: only the biases of Qwen 2 are supported.",
    );
  }
  if (config.flag("mlp_bias", false)) {
    throw unsupported(
      'The checkpoint has "mlp_bias", which is not supported',
      "Use a model without biases in its MLP.",
    );
  }
}

function requireActivation(config: Fields, activation: ModelSpec["activation"]): void {
  const key = config.has("hidden_activation") ? "hidden_activation" : "hidden_act";
  const wanted = activation === "silu" ? "silu" : "gelu_pytorch_tanh";
  const found = config.text(key, wanted);
  if (found !== wanted) {
    throw unsupported(
      `The activation "${found}" is not supported for this architecture`,
      `Use a checkpoint whose ${key} is ${wanted}.`,
    );
  }
}

function ggufVocabSize(
  { fields, tensors }: GgufSource,
  metadata: ReadonlyMap<string, GgufValue>,
): number {
  const rows = tensors.get("token_embd.weight")?.shape[0];
  const tokenCount = ggufTokenCount(metadata);
  const vocabSize = fields.count("vocab_size", rows ?? tokenCount);
  if (tokenCount > vocabSize) {
    throw invalid(`The GGUF file names ${tokenCount} tokens for ${vocabSize} embeddings`);
  }
  return vocabSize;
}

function ggufRope(source: GgufSource, headDim: number): Rope {
  const { fields } = source;
  const dimensions = rotatedDimensions(
    headDim,
    fields.count("rope.dimension_count", headDim) / headDim,
  );
  const base = fields.number("rope.freq_base", 10_000);
  const type = fields.text("rope.scaling.type", "none");
  if (type === "linear") return linearRope(base, dimensions, fields.number("rope.scaling.factor"));
  if (type !== "none" && type !== "longrope") {
    throw unsupported(
      `The rope scaling "${type}" is not supported`,
      "Use a GGUF file with rope scaling none, linear or longrope.",
    );
  }
  const factors = ggufRopeFactors(source);
  if (factors === undefined) return plainRope(base, dimensions);
  return dividedRope(base, dimensions, factors, fields.number("rope.scaling.attn_factor", 1));
}

/** The divisors that GGUF files keep as tensors: one set (Llama 3.1), or a short and a long one. */
function ggufRopeFactors({ fields, tensors, options }: GgufSource): Float32Array | undefined {
  const context = fields.count("context_length");
  const original = fields.count("rope.scaling.original_context_length", context);
  const name = tensors.has("rope_freqs.weight")
    ? "rope_freqs.weight"
    : `rope_factors_${(options.maxModelLen ?? context) > original ? "long" : "short"}.weight`;
  const entry = tensors.get(name);
  if (entry === undefined) return undefined;
  if (options.readFloats === undefined) {
    throw new Error(`buildModel needs readFloats for the tensor ${name}`);
  }
  return options.readFloats(entry);
}
