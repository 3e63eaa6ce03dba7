import type { JsonObject } from "./models/model-spec.ts";
import type { SamplingDefaults } from "./sampling/sampling-params.ts";
import type { ChatOptions, Text } from "./server/text-port.ts";
import { type ChatTemplate, noChatTemplate } from "./text/chat-template.ts";
import { Detokenizer } from "./text/detokenizer.ts";
import { StopStrings } from "./text/stop.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

interface ModelTextOptions {
  readonly tokenizer: Tokenizer;
  /** undefined for base models. */
  readonly chatTemplate: ChatTemplate | undefined;
  /** Logits of the model: it may have more than the tokenizer has tokens. */
  readonly vocabularySize: number;
  readonly endTokenIds: readonly number[];
  readonly samplingDefaults: SamplingDefaults;
}

/** One model's tokenizer and chat template as the server uses them. */
export class ModelText implements Text {
  readonly vocabularySize: number;
  readonly endTokenIds: readonly number[];
  readonly samplingDefaults: SamplingDefaults;
  readonly #tokenizer: Tokenizer;
  readonly #chatTemplate: ChatTemplate | undefined;
  readonly #utf8 = new TextEncoder();

  constructor(options: ModelTextOptions) {
    this.vocabularySize = options.vocabularySize;
    this.endTokenIds = options.endTokenIds;
    this.samplingDefaults = options.samplingDefaults;
    this.#tokenizer = options.tokenizer;
    this.#chatTemplate = options.chatTemplate;
  }

  encode(text: string, addSpecial: boolean): Promise<Int32Array> {
    return this.#tokenizer.encode(text, { addSpecial, parseSpecial: true });
  }

  renderChat(messages: readonly JsonObject[], options: ChatOptions): string {
    if (this.#chatTemplate === undefined) throw noChatTemplate();
    return this.#chatTemplate.render(messages, options);
  }

  encodeChat(rendered: string): Promise<Int32Array> {
    return this.#tokenizer.encodePrompt(rendered);
  }

  displayed(rendered: string): string {
    return this.#chatTemplate?.displayed(rendered) ?? rendered;
  }

  decode(tokenIds: Int32Array): string {
    return this.#tokenizer.decode(tokenIds);
  }

  tokenBytes(tokenId: number): Uint8Array {
    const piece = this.#tokenizer.pieces.piece(tokenId);
    return typeof piece === "string" ? this.#utf8.encode(piece) : piece;
  }

  tokenDecoder(continuesText: boolean): Detokenizer {
    const { pieces } = this.#tokenizer;
    const stripLeadingSpace = pieces.stripsLeadingSpace && !continuesText;
    return new Detokenizer(pieces, { keepSpecial: false, stripLeadingSpace });
  }

  stopMatcher(stops: readonly string[], includeStop: boolean): StopStrings {
    return new StopStrings(stops, includeStop);
  }
}
