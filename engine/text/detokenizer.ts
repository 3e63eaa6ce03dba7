import type { TokenPieces } from "./token-pieces.ts";

export interface DetokenizerOptions {
  /** Writes control tokens out instead of leaving them away. */
  readonly keepSpecial: boolean;
  /** Drops one space at the very beginning: for text that does not continue other text. */
  readonly stripLeadingSpace: boolean;
}

/**
 * Turns tokens into text as they come, without ever giving out part of a character. Constant time
 * per token. Bytes that can no longer become a character are given out as U+FFFD.
 */
export class Detokenizer {
  readonly #pieces: TokenPieces;
  readonly #keepSpecial: boolean;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  /** Whether the decoder may hold the beginning of a character. */
  #isOpen = false;
  #stripsSpace: boolean;

  constructor(pieces: TokenPieces, { keepSpecial, stripLeadingSpace }: DetokenizerOptions) {
    this.#pieces = pieces;
    this.#keepSpecial = keepSpecial;
    this.#stripsSpace = stripLeadingSpace;
  }

  /** @returns the text that became certain, often one word, possibly none */
  push(tokenId: number): string {
    if (!this.#keepSpecial && this.#pieces.isSpecial(tokenId)) return "";
    const piece = this.#pieces.piece(tokenId);
    if (typeof piece === "string") {
      return this.#withoutLeadingSpace(this.#isOpen ? this.#close() + piece : piece);
    }
    this.#isOpen = true;
    return this.#withoutLeadingSpace(this.#decoder.decode(piece, { stream: true }));
  }

  /** Ends the stream: what is left of an unfinished character becomes U+FFFD. */
  flush(): string {
    return this.#isOpen ? this.#withoutLeadingSpace(this.#close()) : "";
  }

  /** A piece of whole characters cannot complete what is held, so nothing is lost by closing. */
  #close(): string {
    this.#isOpen = false;
    return this.#decoder.decode();
  }

  #withoutLeadingSpace(text: string): string {
    if (!this.#stripsSpace || text === "") return text;
    this.#stripsSpace = false;
    return text.startsWith(" ") ? text.slice(1) : text;
  }
}
