import {
  type Architecture,
  type ConfigSource,
  configWindow,
  plainLayout,
  slidingLayers,
  specFromConfig,
  specFromGguf,
} from "./decoder.ts";
import type { LayerSpec } from "./model-spec.ts";

/** Qwen 2 and 2.5: Llama with biases on query, key and value. */
export const qwen2: Architecture = {
  name: "Qwen2ForCausalLM",
  modelType: "qwen2",
  ggufName: "qwen2",
  layout: { ...plainLayout, attentionBias: true },
  tiedByDefault: false,
  specFromConfig: (source) => qwenSpec(source, "Qwen2ForCausalLM"),
  specFromGguf: (source) => specFromGguf(source, "Qwen2ForCausalLM"),
};

/** Qwen 3: no biases, and an RMS norm of each query and key head. */
export const qwen3: Architecture = {
  name: "Qwen3ForCausalLM",
  modelType: "qwen3",
  ggufName: "qwen3",
  layout: { ...plainLayout, queryKeyNorm: true },
  tiedByDefault: false,
  specFromConfig: (source) => qwenSpec(source, "Qwen3ForCausalLM"),
  specFromGguf: (source) => specFromGguf(source, "Qwen3ForCausalLM"),
};

function qwenSpec(source: ConfigSource, name: string) {
  return { ...specFromConfig(source, name), layers: qwenLayers(source) };
}

/** `use_sliding_window` gives the layers from `max_window_layers` on a window. */
function qwenLayers({ config }: ConfigSource): readonly LayerSpec[] {
  const count = config.count("num_hidden_layers");
  const window = config.flag("use_sliding_window", false) ? configWindow(config) : 0;
  const firstWithWindow = config.number("max_window_layers", count);
  const isSliding = config.has("layer_types")
    ? slidingLayers(config)
    : Array.from({ length: count }, (_, index) => index >= firstWithWindow);
  return isSliding.map((slides) => ({ window: slides ? window : 0, rope: 0 }));
}
