import { type Architecture, plainLayout, specFromConfig, specFromGguf } from "./decoder.ts";
import { invalid } from "./fields.ts";

/** Granite 3: Llama with four factors, on embeddings, scores, residuals and logits. */
export const granite: Architecture = {
  name: "GraniteForCausalLM",
  modelType: "granite",
  ggufName: "granite",
  layout: plainLayout,
  tiedByDefault: false,
  specFromConfig: (source) => ({
    ...specFromConfig(source, "GraniteForCausalLM"),
    embeddingScale: source.config.number("embedding_multiplier", 1),
    attentionScale: source.config.number("attention_multiplier", 1),
    residualScale: source.config.number("residual_multiplier", 1),
    logitScale: inverse(source.config.number("logits_scaling", 1)),
  }),
  specFromGguf: (source) => {
    const spec = specFromGguf(source, "GraniteForCausalLM");
    return {
      ...spec,
      ropeLayout: "adjacent",
      embeddingScale: source.fields.number("embedding_scale", 1),
      attentionScale: source.fields.number("attention.scale", spec.attentionScale),
      residualScale: source.fields.number("residual_scale", 1),
      logitScale: inverse(source.fields.number("logit_scale", 1)),
    };
  },
};

/** Both formats keep what the logits are divided by. */
function inverse(divisor: number): number {
  if (divisor === 0) throw invalid("The checkpoint divides logits by 0");
  return 1 / divisor;
}
