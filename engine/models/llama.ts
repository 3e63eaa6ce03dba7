import {
  type Architecture,
  configWindow,
  plainLayout,
  sameLayers,
  specFromConfig,
  specFromGguf,
} from "./decoder.ts";

/** Llama 2 and 3, and everything published under the name. */
export const llama: Architecture = {
  name: "LlamaForCausalLM",
  modelType: "llama",
  ggufName: "llama",
  layout: plainLayout,
  tiedByDefault: false,
  specFromConfig: (source) => specFromConfig(source, "LlamaForCausalLM"),
  /** GGUF converters permute the rows of query and key so that RoPE pairs neighbours. */
  specFromGguf: (source) => {
    const spec = specFromGguf(source, "LlamaForCausalLM");
    const window = source.fields.number("attention.sliding_window", 0);
    return { ...spec, ropeLayout: "adjacent", layers: sameLayers(spec.layers.length, window) };
  },
};

/** Mistral 7B and its kin: Llama with a sliding window in the first version. */
export const mistral: Architecture = {
  ...llama,
  name: "MistralForCausalLM",
  modelType: "mistral",
  ggufName: undefined,
  specFromConfig: (source) => {
    const spec = specFromConfig(source, "MistralForCausalLM");
    return { ...spec, layers: sameLayers(spec.layers.length, configWindow(source.config)) };
  },
};
