import {
  type Architecture,
  type ConfigSource,
  configWindow,
  type GgufSource,
  plainLayout,
  slidingLayers,
  specFromConfig,
  specFromGguf,
} from "./decoder.ts";
import { type Fields, unsupported } from "./fields.ts";
import type { ModelSpec, Rope } from "./model-spec.ts";
import { configRope, plainRope } from "./rope.ts";

const gemmaLayout = { ...plainLayout, postNorms: true };

/**
 * Gemma 2: embeddings times the root of their width, norms that store their weight less one, norms
 * after both blocks, caps on scores and logits, and a window in every second layer.
 */
export const gemma2: Architecture = {
  name: "Gemma2ForCausalLM",
  modelType: "gemma2",
  ggufName: "gemma2",
  layout: gemmaLayout,
  tiedByDefault: true,
  specFromConfig: (source) => {
    const spec = gemmaFromConfig(source, "Gemma2ForCausalLM");
    const window = configWindow(source.config);
    const sliding = configSliding(source.config, 2);
    return { ...spec, layers: sliding.map((slides) => ({ window: slides ? window : 0, rope: 0 })) };
  },
  specFromGguf: (source) => {
    const spec = gemmaFromGguf(source, "Gemma2ForCausalLM", 46);
    const window = source.fields.count("attention.sliding_window");
    const layers = spec.layers.map((_, index) => ({
      window: index % 2 === 0 ? window : 0,
      rope: 0,
    }));
    return { ...spec, layers };
  },
};

/** Layers of Gemma 3 from one that sees everything to the next. */
const gemma3Pattern = 6;

/**
 * Gemma 3's text model: Gemma 2 without caps, with an RMS norm of each query and key head. Five
 * layers with a window and a rope of their own stand before each layer that sees everything.
 */
export const gemma3: Architecture = {
  name: "Gemma3ForCausalLM",
  modelType: "gemma3_text",
  ggufName: "gemma3",
  layout: { ...gemmaLayout, queryKeyNorm: true },
  tiedByDefault: true,
  specFromConfig: (source) => {
    const { config } = source;
    const spec = gemmaFromConfig(source, "Gemma3ForCausalLM");
    const pattern = config.count("sliding_window_pattern", gemma3Pattern);
    const sliding = configSliding(config, pattern);
    return {
      ...spec,
      ...gemma3Layers(spec, sliding, configWindow(config), localRope(source, spec)),
    };
  },
  specFromGguf: (source) => {
    const spec = gemmaFromGguf(source, "Gemma3ForCausalLM", 62);
    const { fields } = source;
    const sliding = spec.layers.map((_, index) => (index + 1) % gemma3Pattern !== 0);
    const local = plainRope(fields.number("rope.freq_base_swa", 10_000), spec.headDim);
    return {
      ...spec,
      ...gemma3Layers(spec, sliding, fields.count("attention.sliding_window"), local),
    };
  },
};

/** Layers with a window take the second rope. */
function gemma3Layers(spec: ModelSpec, sliding: readonly boolean[], window: number, local: Rope) {
  return {
    ropes: [...spec.ropes, local],
    layers: sliding.map((slides) => (slides ? { window, rope: 1 } : { window: 0, rope: 0 })),
  };
}

function gemmaFromConfig(source: ConfigSource, name: string): ModelSpec {
  const { config } = source;
  if (config.flag("use_bidirectional_attention", false)) {
    throw unsupported(
      "The checkpoint has bidirectional attention",
      "Use a model that generates text: embedding models are not supported.",
    );
  }
  const spec = specFromConfig(source, name, "gelu_tanh");
  return {
    ...spec,
    normOffset: 1,
    embeddingScale: Math.sqrt(spec.hiddenSize),
    attentionScale: config.number("query_pre_attn_scalar", spec.headDim) ** -0.5,
    attentionSoftcap: config.number("attn_logit_softcapping", 0),
    logitSoftcap: config.number("final_logit_softcapping", 0),
  };
}

/**
 * GGUF's norm weights have the one added. The scale on scores is not in the file: the largest model
 * of each generation, known by its layers, divides by the width per head instead of the head's size.
 */
function gemmaFromGguf(source: GgufSource, name: string, largestLayerCount: number): ModelSpec {
  const spec = specFromGguf(source, name);
  const isLargest = spec.layers.length === largestLayerCount;
  const scalar = isLargest ? spec.hiddenSize / spec.headCount : spec.headDim;
  return {
    ...spec,
    activation: "gelu_tanh",
    embeddingScale: Math.sqrt(spec.hiddenSize),
    attentionScale: scalar ** -0.5,
    attentionSoftcap: source.fields.number("attn_logit_softcapping", 0),
    logitSoftcap: source.fields.number("final_logit_softcapping", 0),
  };
}

/** From `layer_types`, else every `pattern`-th layer sees everything. */
function configSliding(config: Fields, pattern: number): readonly boolean[] {
  if (config.has("layer_types")) return slidingLayers(config);
  const count = config.count("num_hidden_layers");
  return Array.from({ length: count }, (_, index) => (index + 1) % pattern !== 0);
}

/** Transformers 4 keeps `rope_local_base_freq`, Transformers 5 `rope_parameters` by layer type. */
function localRope({ config, options }: ConfigSource, spec: ModelSpec): Rope {
  const parameters = config.child("rope_parameters")?.child("sliding_attention");
  const base =
    parameters === undefined
      ? config.number("rope_local_base_freq", 10_000)
      : parameters.number("rope_theta");
  return configRope(base, parameters, {
    dimensions: spec.headDim,
    contextLength: spec.contextLength,
    maxModelLen: options.maxModelLen ?? spec.contextLength,
  });
}
