import { EngineError } from "../errors.ts";
import type { JsonObject, JsonValue } from "../models/model-spec.ts";
import { type TokenizerJson, tokenTexts } from "./tokenizer-json.ts";

/** What a token stands for: text when its bytes are whole characters, else its bytes. */
export type Piece = string | Uint8Array;

const byteToken = /^<0x([0-9A-Fa-f]{2})>$/;

/** The text or bytes behind each token id, worked out when first asked for. */
export class TokenPieces {
  /** One more than the highest id. */
  readonly tokenCount: number;
  /** Whether decoding drops one space at the very beginning (SentencePiece's dummy prefix). */
  readonly stripsLeadingSpace: boolean;
  readonly #texts: readonly (string | undefined)[];
  readonly #pieces: (Piece | undefined)[];
  readonly #toPiece: (text: string) => Piece;
  readonly #added: ReadonlySet<number>;
  readonly #special: ReadonlySet<number>;

  /** @throws EngineError MODEL_UNSUPPORTED when the decoder is neither kind */
  constructor(json: TokenizerJson) {
    const steps = decoderSteps(json.decoder);
    const isByteLevel = steps.some(({ type }) => type === "ByteLevel");
    if (!isByteLevel && !steps.some(isSpaceReplacer)) {
      throw new EngineError("MODEL_UNSUPPORTED", "The tokenizer's decoder is not supported", {
        remedy: "Use a model whose tokenizer is byte-level BPE or SentencePiece.",
      });
    }
    this.#toPiece = isByteLevel ? byteLevelPiece : sentencePiecePiece;
    this.stripsLeadingSpace = steps.some(stripsSpace);
    this.#texts = tokenTexts(json);
    this.tokenCount = this.#texts.length;
    this.#pieces = new Array(this.tokenCount);
    this.#added = new Set(isByteLevel ? json.added_tokens.map(({ id }) => id) : []);
    this.#special = new Set(json.added_tokens.flatMap(({ id, special }) => (special ? [id] : [])));
  }

  /** An id beyond the vocabulary (models may pad their output) stands for nothing. */
  piece(id: number): Piece {
    const known = this.#pieces[id];
    if (known !== undefined) return known;
    const text = this.#texts[id];
    if (text === undefined) return "";
    const piece = this.#added.has(id) ? text : this.#toPiece(text);
    this.#pieces[id] = piece;
    return piece;
  }

  /** The token as the vocabulary writes it, such as `Ġthe`. */
  text(id: number): string | undefined {
    return this.#texts[id];
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }
}

/** Each byte as the visible character that GPT-2's vocabulary writes for it (Radford, 2019). */
function byteAlphabet(): ReadonlyMap<string, number> {
  const isVisible = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) ||
    (byte >= 0xa1 && byte <= 0xac) ||
    (byte >= 0xae && byte <= 0xff);
  const alphabet = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 0x100; byte++) {
    alphabet.set(String.fromCharCode(isVisible(byte) ? byte : next++), byte);
  }
  return alphabet;
}

const alphabet = byteAlphabet();
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A character outside the alphabet makes the whole token literal text, as in the library. */
function byteLevelPiece(text: string): Piece {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const byte = alphabet.get(text.charAt(i));
    if (byte === undefined) return text;
    bytes[i] = byte;
  }
  return wholeText(bytes) ?? bytes;
}

function sentencePiecePiece(text: string): Piece {
  const hex = byteToken.exec(text)?.[1];
  if (hex === undefined) return text.replaceAll("▁", " ");
  const bytes = Uint8Array.of(Number.parseInt(hex, 16));
  return wholeText(bytes) ?? bytes;
}

function wholeText(bytes: Uint8Array): string | undefined {
  try {
    return strictUtf8.decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** The steps of a decoder, whether it is one or a sequence. */
function decoderSteps(decoder: JsonValue): readonly JsonObject[] {
  if (typeof decoder !== "object" || decoder === null || Array.isArray(decoder)) return [];
  const { decoders } = decoder as JsonObject;
  return Array.isArray(decoders) ? decoders.flatMap(decoderSteps) : [decoder as JsonObject];
}

function isSpaceReplacer(step: JsonObject): boolean {
  return step["type"] === "Metaspace" || (step["type"] === "Replace" && step["content"] === " ");
}

function stripsSpace(step: JsonObject): boolean {
  if (step["type"] === "Strip") return step["content"] === " " && step["start"] === 1;
  return step["type"] === "Metaspace" && step["prepend_scheme"] !== "never";
}
