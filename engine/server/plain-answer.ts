import type { GenerationUpdate } from "../generation.ts";
import type { Choice, ChoiceSink } from "./choice.ts";
import {
  type ChatLogprob,
  type CompletionLogprobs,
  chatLogprob,
  completionLogprobs,
} from "./logprobs.ts";
import type { Text } from "./text-port.ts";

/** All that one choice said. */
export interface CollectedChoice {
  text: string;
  readonly tokenIds: number[];
  readonly chatLogprobs: ChatLogprob[];
  readonly completionLogprobs: CompletionLogprobs;
}

interface PlainOptions {
  readonly kind: "chat" | "completion";
  readonly logprobs: boolean;
  readonly echoOf: (choice: Choice) => string;
}

/** Gathers the choices of an answer that is sent in one piece. */
export class PlainAnswer implements ChoiceSink {
  readonly #text: Text;
  readonly #options: PlainOptions;
  readonly #collected = new Map<Choice, CollectedChoice>();

  constructor(text: Text, options: PlainOptions) {
    this.#text = text;
    this.#options = options;
  }

  of(choice: Choice): CollectedChoice {
    const known = this.#collected.get(choice);
    if (known !== undefined) return known;
    const collected: CollectedChoice = {
      text: this.#options.echoOf(choice),
      tokenIds: [],
      chatLogprobs: [],
      completionLogprobs: { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] },
    };
    this.#collected.set(choice, collected);
    return collected;
  }

  token(choice: Choice, text: string, update: GenerationUpdate, position: number): void {
    const collected = this.of(choice);
    collected.tokenIds.push(update.tokenIds[position] ?? 0);
    if (this.#options.logprobs) this.#addLogprobs(collected, update, position);
    collected.text += text;
  }

  rest(choice: Choice, text: string): void {
    this.of(choice).text += text;
  }

  finish(): void {}

  #addLogprobs(collected: CollectedChoice, update: GenerationUpdate, position: number): void {
    if (this.#options.kind === "chat") {
      collected.chatLogprobs.push(chatLogprob(this.#text, update, position));
      return;
    }
    const entry = completionLogprobs(this.#text, update, position, collected.text.length);
    const all = collected.completionLogprobs;
    all.tokens.push(...entry.tokens);
    all.token_logprobs.push(...entry.token_logprobs);
    all.top_logprobs.push(...entry.top_logprobs);
    all.text_offset.push(...entry.text_offset);
  }
}
