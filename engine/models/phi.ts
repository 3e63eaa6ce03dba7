import {
  type Architecture,
  configWindow,
  plainLayout,
  sameLayers,
  specFromConfig,
  specFromGguf,
} from "./decoder.ts";

/**
 * Phi 3 and 4-mini: Llama with fused matrices, a window in some versions, longrope, and a rotation
 * of a part of each head in some.
 */
export const phi3: Architecture = {
  name: "Phi3ForCausalLM",
  modelType: "phi3",
  ggufName: "phi3",
  layout: { ...plainLayout, fused: true },
  tiedByDefault: false,
  specFromConfig: (source) => {
    const spec = specFromConfig(source, "Phi3ForCausalLM");
    return { ...spec, layers: sameLayers(spec.layers.length, configWindow(source.config)) };
  },
  specFromGguf: (source) => {
    const spec = specFromGguf(source, "Phi3ForCausalLM");
    const window = source.fields.number("attention.sliding_window", 0);
    return { ...spec, layers: sameLayers(spec.layers.length, window) };
  },
};
