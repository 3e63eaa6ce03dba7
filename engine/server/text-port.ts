/** What the HTTP side asks of a model's text: its tokenizer, its chat template, its stop strings. */
import type { JsonObject } from "../models/model-spec.ts";
import type { SamplingDefaults } from "../sampling/sampling-params.ts";

export interface ChatOptions {
  readonly addGenerationPrompt: boolean;
  /** Further variables of the template (`chat_template_kwargs`). */
  readonly extra: JsonObject;
}

/** Tokens of one generation as text that never splits a character. */
export interface TokenDecoder {
  /** Text that became certain with this token; empty while a character is incomplete. */
  push(tokenId: number): string;
  /** What is left when no token follows. */
  flush(): string;
}

/** Finds stop strings in text that arrives in pieces. */
export interface StopMatcher {
  /** Text that can no longer be part of a stop string, and the stop string that ends the stream. */
  push(text: string): { readonly text: string; readonly stopString: string | undefined };
  /** Text held back when no more follows. */
  flush(): string;
}

export interface Text {
  readonly vocabularySize: number;
  /** Tokens that end an answer. */
  readonly endTokenIds: readonly number[];
  /** What the model's makers advise where a request does not say. */
  readonly samplingDefaults: SamplingDefaults;
  encode(text: string, addSpecial: boolean): Promise<Int32Array>;
  /**
   * A conversation as one prompt, for `encodeChat` and `displayed` alone.
   *
   * @throws EngineError REQUEST_INVALID or UNSUPPORTED_FIELD when the template refuses the messages
   *   or the model has none
   */
  renderChat(messages: readonly JsonObject[], options: ChatOptions): string;
  encodeChat(rendered: string): Promise<Int32Array>;
  /** The rendered conversation as a person should see it. */
  displayed(rendered: string): string;
  /** Control tokens stay out. */
  decode(tokenIds: Int32Array): string;
  /** The bytes that a token stands for, which need not be whole characters. */
  tokenBytes(tokenId: number): Uint8Array;
  /** @param continuesText keeps the space that the first token may begin with */
  tokenDecoder(continuesText: boolean): TokenDecoder;
  stopMatcher(stops: readonly string[], includeStop: boolean): StopMatcher;
}
