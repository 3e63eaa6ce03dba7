import type { Choice } from "./choice.ts";

/** OpenAI's usage object. */
export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

/** Counts each prompt once, however many choices it has. */
export function usageOf(choices: readonly Choice[], choiceCount: number): Usage {
  let promptTokens = 0;
  let cachedTokens = 0;
  let completionTokens = 0;
  for (const choice of choices) {
    completionTokens += choice.tokenCount;
    if (choice.index % choiceCount !== 0) continue;
    promptTokens += choice.promptTokenIds.length;
    cachedTokens += choice.cachedTokenCount;
  }
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
}
