import type { GenerationUpdate } from "../generation.ts";
import type { Choice, ChoiceSink } from "./choice.ts";
import { errorBody } from "./error-response.ts";
import { chatLogprob, completionLogprobs } from "./logprobs.ts";
import type { EventStream } from "./sse.ts";
import type { Text } from "./text-port.ts";
import type { Usage } from "./usage.ts";

export interface ChunkOptions {
  readonly kind: "chat" | "completion";
  readonly id: string;
  readonly model: string;
  readonly createdSeconds: number;
  readonly text: Text;
  readonly logprobs: boolean;
  readonly tokenIds: boolean;
  readonly usage: "none" | "last" | "every";
  /** Usage so far, for chunks that carry it. */
  readonly usageNow: () => Usage;
  /** Text before the output of a choice: the prompt, when it is echoed. */
  readonly echoOf: (choice: Choice) => string;
}

const shapes = {
  chat: {
    object: "chat.completion.chunk",
    before: '"delta":{"content":',
    after: "}",
    empty: '"delta":{}',
  },
  completion: { object: "text_completion", before: '"text":', after: "", empty: '"text":""' },
} as const;

/**
 * Writes the chunks of one streamed answer. All of a chunk but the text is put together once for
 * each choice, so that a token costs two concatenations and the escaping of its text.
 */
export class ChunkWriter implements ChoiceSink {
  readonly #stream: EventStream;
  readonly #options: ChunkOptions;
  readonly #shape: (typeof shapes)[ChunkOptions["kind"]];
  readonly #head: string;
  readonly #tail: string;
  /** Whether text is all that a token's chunk says. */
  readonly #isPlain: boolean;
  /** By choice: everything before the text; a choice without one has said nothing. */
  readonly #prefixes: string[] = [];
  readonly #offsets: number[] = [];

  constructor(stream: EventStream, options: ChunkOptions) {
    const { id, model, createdSeconds, usage } = options;
    this.#stream = stream;
    this.#options = options;
    this.#shape = shapes[options.kind];
    const { object } = this.#shape;
    const fields = JSON.stringify({ id, object, created: createdSeconds, model }).slice(0, -1);
    this.#head = `data: ${fields},"choices":[`;
    this.#tail = usage === "last" ? ',"usage":null}\n\n' : "}\n\n";
    this.#isPlain = !options.logprobs && !options.tokenIds && usage !== "every";
  }

  token(choice: Choice, text: string, update: GenerationUpdate, position: number): void {
    const prefix = this.#prefixes[choice.index] ?? this.#open(choice);
    if (this.#isPlain) {
      if (text !== "") this.#plain(prefix, text);
      return;
    }
    const { logprobs, tokenIds } = this.#options;
    const offset = this.#offsets[choice.index] ?? 0;
    this.#offsets[choice.index] = offset + text.length;
    if (text === "" && !logprobs && !tokenIds) return;
    const entry = logprobs ? this.#logprobs(update, position, offset) : "null";
    const ids = tokenIds ? `,"token_ids":[${update.tokenIds[position]}]` : "";
    this.#send(
      `${prefix}${JSON.stringify(text)}${this.#shape.after},"logprobs":${entry},"finish_reason":null${ids}}]`,
    );
  }

  rest(choice: Choice, text: string): void {
    this.#plain(this.#prefixes[choice.index] ?? this.#open(choice), text);
  }

  finish(choice: Choice): void {
    const { index, finishReason, stopReason } = choice;
    const reason = `"finish_reason":"${finishReason}","stop_reason":${JSON.stringify(stopReason)}`;
    this.#send(`${this.#head}{"index":${index},${this.#shape.empty},"logprobs":null,${reason}}]`);
  }

  /** Usage if it was asked for, and the end. */
  end(): void {
    if (this.#options.usage !== "none") {
      this.#stream.send(`${this.#head}],"usage":${JSON.stringify(this.#options.usageNow())}}\n\n`);
    }
    this.#stream.send("data: [DONE]\n\n");
    this.#stream.end();
  }

  /** Tells the reader of a failure after the head was sent. */
  fail(error: unknown): void {
    this.#stream.send(`data: ${JSON.stringify(errorBody(error))}\n\ndata: [DONE]\n\n`);
    this.#stream.end();
  }

  #plain(prefix: string, text: string): void {
    this.#send(
      `${prefix}${JSON.stringify(text)}${this.#shape.after},"logprobs":null,"finish_reason":null}]`,
    );
  }

  #send(chunk: string): void {
    const usage =
      this.#options.usage === "every" ? `,"usage":${JSON.stringify(this.#options.usageNow())}` : "";
    this.#stream.send(chunk + usage + this.#tail);
  }

  /** Begins a choice: with its role in a chat, with the prompt where it is echoed. */
  #open(choice: Choice): string {
    const { kind, tokenIds } = this.#options;
    const begin = `${this.#head}{"index":${choice.index},`;
    const ids = tokenIds ? `,"prompt_token_ids":[${choice.promptTokenIds.join(",")}]` : "";
    const nothing = `"logprobs":null,"finish_reason":null}]${ids}`;
    const echo = this.#options.echoOf(choice);
    if (kind === "chat") {
      this.#send(`${begin}"delta":{"role":"assistant","content":""},${nothing}`);
    } else if (echo !== "" || tokenIds) {
      this.#send(`${begin}"text":${JSON.stringify(echo)},${nothing}`);
    }
    const prefix = begin + this.#shape.before;
    this.#prefixes[choice.index] = prefix;
    return prefix;
  }

  #logprobs(update: GenerationUpdate, position: number, offset: number): string {
    const { kind, text } = this.#options;
    return JSON.stringify(
      kind === "chat"
        ? { content: [chatLogprob(text, update, position)] }
        : completionLogprobs(text, update, position, offset),
    );
  }
}
