import type { GenerationUpdate } from "../generation.ts";
import type { Text } from "./text-port.ts";

/** JSON has no infinity; vLLM writes this for a token that could not be drawn. */
const lowestLogprob = -9999;

interface TokenLogprob {
  readonly token: string;
  readonly logprob: number;
  /** UTF-8 bytes: `token` shows U+FFFD where they are part of a character. */
  readonly bytes: readonly number[];
}

/** An entry of a chat choice's `logprobs.content`. */
export interface ChatLogprob extends TokenLogprob {
  readonly top_logprobs: readonly TokenLogprob[];
}

/** A choice's `logprobs` in /v1/completions. */
export interface CompletionLogprobs {
  readonly tokens: string[];
  readonly token_logprobs: number[];
  readonly top_logprobs: Record<string, number>[];
  /** UTF-16 index of each token in the choice's text. */
  readonly text_offset: number[];
}

export function chatLogprob(text: Text, update: GenerationUpdate, position: number): ChatLogprob {
  const alternatives = update.topLogprobs[position] ?? [];
  return {
    ...tokenLogprob(text, update.tokenIds[position] ?? 0, update.logprobs[position] ?? 0),
    top_logprobs: alternatives.map(([id, logprob]) => tokenLogprob(text, id, logprob)),
  };
}

export function completionLogprobs(
  text: Text,
  update: GenerationUpdate,
  position: number,
  offset: number,
): CompletionLogprobs {
  const entry = chatLogprob(text, update, position);
  const alternatives = entry.top_logprobs.map(({ token, logprob }) => [token, logprob] as const);
  return {
    tokens: [entry.token],
    token_logprobs: [entry.logprob],
    top_logprobs: [Object.fromEntries([...alternatives, [entry.token, entry.logprob]])],
    text_offset: [offset],
  };
}

function tokenLogprob(text: Text, tokenId: number, logprob: number): TokenLogprob {
  const bytes = text.tokenBytes(tokenId);
  return {
    token: new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes),
    logprob: Math.max(logprob, lowestLogprob),
    bytes: [...bytes],
  };
}
