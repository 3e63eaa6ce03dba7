import { EngineError } from "../errors.ts";
import type { JsonObject, JsonValue } from "../models/model-spec.ts";

/** A token that is matched in the text before anything else. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly single_word: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly normalized: boolean;
  /** A control token: never text. */
  readonly special: boolean;
}

/** The parts of Hugging Face's `tokenizer.json` that matter here. */
export interface TokenizerJson {
  readonly added_tokens: readonly AddedToken[];
  readonly normalizer: JsonValue;
  readonly pre_tokenizer: JsonValue;
  readonly post_processor: JsonValue;
  readonly decoder: JsonValue;
  readonly model: {
    readonly type?: string;
    readonly vocab: Readonly<Record<string, number>>;
    readonly merges: readonly JsonValue[];
    readonly [key: string]: unknown;
  };
}

/**
 * @throws EngineError CHECKPOINT_INVALID when the text is not a tokenizer, MODEL_UNSUPPORTED when
 *   its model is not byte-pair encoding
 */
export function parseTokenizerJson(text: string): TokenizerJson {
  let parsed: Partial<TokenizerJson>;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw brokenTokenizer("tokenizer.json is not JSON", error);
  }
  const model = parsed.model;
  const type = model?.type ?? "BPE";
  if (type !== "BPE") {
    throw new EngineError("MODEL_UNSUPPORTED", `The tokenizer model "${type}" is not supported`, {
      remedy: "Use a model whose tokenizer.json holds byte-pair encoding (BPE).",
    });
  }
  if (typeof model?.vocab !== "object" || !Array.isArray(model.merges)) {
    throw brokenTokenizer("tokenizer.json has no vocabulary and merges");
  }
  return {
    added_tokens: parsed.added_tokens ?? [],
    normalizer: parsed.normalizer ?? null,
    pre_tokenizer: parsed.pre_tokenizer ?? null,
    post_processor: parsed.post_processor ?? null,
    decoder: parsed.decoder ?? null,
    model,
  };
}

/** Every token's text by its id; undefined where the vocabulary has a hole. */
export function tokenTexts(json: TokenizerJson): (string | undefined)[] {
  const texts: (string | undefined)[] = [];
  for (const [text, id] of Object.entries(json.model.vocab)) texts[id] = text;
  for (const { id, content } of json.added_tokens) texts[id] = content;
  return texts;
}

/**
 * The same tokenizer with its control tokens spelled as `spell` says, at their ids. Every added
 * token enters the vocabulary, because the library numbers those that it does not find there anew.
 */
export function respellSpecialTokens(
  json: TokenizerJson,
  spell: (content: string) => string,
): JsonObject {
  const added = json.added_tokens.map((token) =>
    token.special ? { ...token, content: spell(token.content) } : token,
  );
  const special = new Map(
    json.added_tokens.filter((token) => token.special).map(({ id, content }) => [content, id]),
  );
  const vocab = Object.entries(json.model.vocab).filter(([text, id]) => special.get(text) !== id);
  const entries = new Map([...vocab, ...added.map(({ content, id }) => [content, id] as const)]);
  const unknown = json.model["unk_token"];
  const isSpelled = typeof unknown === "string" && special.has(unknown);
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: added.map((token) => ({ ...token })),
    normalizer: json.normalizer,
    pre_tokenizer: json.pre_tokenizer,
    post_processor: json.post_processor,
    decoder: null,
    model: {
      ...json.model,
      type: "BPE",
      unk_token: isSpelled ? spell(unknown) : (unknown ?? null),
      vocab: Object.fromEntries(entries),
    } as JsonObject,
  };
}

export function brokenTokenizer(message: string, cause?: unknown): EngineError {
  return new EngineError("CHECKPOINT_INVALID", message, {
    remedy: "Fetch the checkpoint again.",
    cause,
  });
}
