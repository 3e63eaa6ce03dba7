import { Tokenizer as Library } from "tokenizers";

import type { Checkpoint } from "../models/model-spec.ts";
import { Detokenizer } from "./detokenizer.ts";
import { tokenizerJsonOfGguf } from "./gguf-tokenizer.ts";
import { randomSecret, SpecialTokens } from "./special-tokens.ts";
import { TokenPieces } from "./token-pieces.ts";
import {
  brokenTokenizer,
  parseTokenizerJson,
  respellSpecialTokens,
  type TokenizerJson,
} from "./tokenizer-json.ts";

export interface EncodeOptions {
  /** Adds what the tokenizer puts around a text, such as BOS. */
  readonly addSpecial: boolean;
  /** Control tokens written in the text become control tokens; else they are ordinary text. */
  readonly parseSpecial: boolean;
}

/** Text to token ids and back. Encoding runs on the library's threads. */
export class Tokenizer {
  readonly pieces: TokenPieces;
  /** Which texts are control tokens, for the chat template. */
  readonly specialTokens: SpecialTokens;
  readonly #library: Library;
  readonly #ids: ReadonlyMap<string, number>;

  constructor(json: TokenizerJson) {
    this.pieces = new TokenPieces(json);
    const special = json.added_tokens.filter((token) => token.special);
    this.specialTokens = new SpecialTokens(
      special.map(({ content }) => content),
      randomSecret(),
    );
    this.#ids = new Map(json.added_tokens.map(({ content, id }) => [content, id]));
    const respelled = respellSpecialTokens(json, (content) => this.specialTokens.spell(content));
    this.#library = openLibrary(JSON.stringify(respelled));
  }

  /** One more than the highest token id; the model may have more embeddings. */
  get tokenCount(): number {
    return this.pieces.tokenCount;
  }

  async encode(text: string, { addSpecial, parseSpecial }: EncodeOptions): Promise<Int32Array> {
    return this.#encode(parseSpecial ? this.specialTokens.mark(text) : text, addSpecial);
  }

  /** Encodes what `ChatTemplate.render` returned: only the template's own control tokens count. */
  async encodePrompt(rendered: string): Promise<Int32Array> {
    return this.#encode(this.specialTokens.mark(rendered), false);
  }

  /**
   * @param keepSpecial writes control tokens out instead of leaving them away
   */
  decode(tokenIds: Iterable<number>, keepSpecial = false): string {
    const detokenizer = new Detokenizer(this.pieces, {
      keepSpecial,
      stripLeadingSpace: this.pieces.stripsLeadingSpace,
    });
    let text = "";
    for (const id of tokenIds) text += detokenizer.push(id);
    return text + detokenizer.flush();
  }

  /** Id of an added token (control or user-defined) by its text. */
  addedTokenId(text: string): number | undefined {
    return this.#ids.get(text);
  }

  async #encode(text: string, addSpecialTokens: boolean): Promise<Int32Array> {
    if (text === "" && !addSpecialTokens) return new Int32Array(0);
    const encoding = await this.#library.encode(text, null, { addSpecialTokens });
    return Int32Array.from(encoding.getIds());
  }
}

/**
 * The tokenizer of a checkpoint: its `tokenizer.json`, or the vocabulary of its GGUF file.
 *
 * @throws EngineError CHECKPOINT_INVALID or MODEL_UNSUPPORTED
 */
export function openTokenizer({ source }: Checkpoint): Tokenizer {
  return new Tokenizer(
    source.format === "gguf"
      ? tokenizerJsonOfGguf(source.metadata)
      : parseTokenizerJson(source.tokenizerJson),
  );
}

function openLibrary(json: string): Library {
  try {
    return Library.fromString(json);
  } catch (error) {
    throw brokenTokenizer("The tokenizer cannot be built", error);
  }
}
