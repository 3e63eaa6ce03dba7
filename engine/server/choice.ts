import { EngineError } from "../errors.ts";
import type { Generation, GenerationUpdate } from "../generation.ts";
import type { RequestTimer } from "../metrics/request-timer.ts";
import type { SamplingParams } from "../sampling/sampling-params.ts";
import type { StopMatcher, Text, TokenDecoder } from "./text-port.ts";

/** Takes what a choice says, as it becomes certain. */
export interface ChoiceSink {
  /**
   * One generated token and the text that became certain with it, often its own, possibly none.
   *
   * @param position of the token in the update, for its logprobs
   */
  token(choice: Choice, text: string, update: GenerationUpdate, position: number): void;
  /** Text that was held back and that no token follows. */
  rest(choice: Choice, text: string): void;
  /** `finishReason` and `stopReason` of the choice are known. */
  finish(choice: Choice): void;
}

export interface ChoiceOptions {
  /** Place in the answer's `choices`. */
  readonly index: number;
  readonly promptTokenIds: Int32Array;
  readonly params: SamplingParams;
  readonly generation: Generation;
  readonly timer: RequestTimer;
  /** The output goes on where the prompt ends, as in /v1/completions. */
  readonly continuesText: boolean;
}

/** One generation on its way to being one choice of an answer. */
export class Choice {
  readonly index: number;
  readonly promptTokenIds: Int32Array;
  readonly #params: SamplingParams;
  readonly #generation: Generation;
  readonly #timer: RequestTimer;
  readonly #decoder: TokenDecoder;
  readonly #stops: StopMatcher;
  #tokenCount = 0;
  #cachedTokenCount = 0;
  #finishReason: "stop" | "length" | undefined;
  #stopReason: string | number | null = null;

  constructor(text: Text, options: ChoiceOptions) {
    this.index = options.index;
    this.promptTokenIds = options.promptTokenIds;
    this.#params = options.params;
    this.#generation = options.generation;
    this.#timer = options.timer;
    this.#decoder = text.tokenDecoder(options.continuesText);
    this.#stops = text.stopMatcher(options.params.stops, options.params.includeStop);
  }

  get tokenCount(): number {
    return this.#tokenCount;
  }

  get cachedTokenCount(): number {
    return this.#cachedTokenCount;
  }

  get finishReason(): "stop" | "length" | undefined {
    return this.#finishReason;
  }

  /** The stop string or stop token that the request named and that ended this choice. */
  get stopReason(): string | number | null {
    return this.#stopReason;
  }

  abort(): void {
    this.#generation.abort();
  }

  /**
   * Reads the generation to its end, or to its first stop string.
   *
   * @throws EngineError ABORTED, or DEVICE_FAILED
   */
  async run(sink: ChoiceSink): Promise<void> {
    try {
      for await (const update of this.#generation) {
        this.#read(update, sink);
        if (this.#finishReason === undefined) continue;
        this.#timer.finish(this.#finishReason);
        sink.finish(this);
        return;
      }
      throw aborted();
    } catch (error) {
      const isAbort = error instanceof EngineError && error.code === "ABORTED";
      this.#timer.finish(isAbort ? "abort" : "error");
      throw error;
    } finally {
      this.#generation.abort();
    }
  }

  #read(update: GenerationUpdate, sink: ChoiceSink): void {
    const { tokenIds, finishReason } = update;
    this.#cachedTokenCount = update.cachedTokenCount;
    this.#timer.tokens(tokenIds.length);
    for (let position = 0; position < tokenIds.length; position++) {
      const isLast = position === tokenIds.length - 1;
      const text = this.#textOf(tokenIds[position] ?? 0, isLast && finishReason === "stop");
      sink.token(this, text, update, position);
      if (this.#finishReason !== undefined) return;
    }
    if (finishReason === undefined) return;
    if (finishReason === "abort") throw aborted();
    if (finishReason === "error") throw failed();
    const rest = this.#rest();
    if (rest !== "") sink.rest(this, rest);
    this.#finishReason ??= finishReason;
  }

  /** @param mayStop the token ended the generation: a stop token then, which is not text */
  #textOf(tokenId: number, mayStop: boolean): string {
    this.#tokenCount++;
    if (mayStop && this.#params.stopTokenIds.includes(tokenId)) {
      if (!this.#params.namedStopTokenIds.has(tokenId)) return "";
      this.#stopReason = tokenId;
      return this.#params.includeStop ? this.#match(this.#decoder.push(tokenId)) : "";
    }
    return this.#match(this.#decoder.push(tokenId));
  }

  #match(text: string): string {
    if (text === "" || this.#tokenCount < this.#params.minTokens) return text;
    const outcome = this.#stops.push(text);
    if (outcome.stopString !== undefined) {
      this.#finishReason = "stop";
      this.#stopReason = outcome.stopString;
    }
    return outcome.text;
  }

  /** What decoder and matcher hold; the decoder's last characters may still complete a stop. */
  #rest(): string {
    const text = this.#match(this.#decoder.flush());
    return this.#finishReason === undefined ? text + this.#stops.flush() : text;
  }
}

function aborted(): EngineError {
  return new EngineError("ABORTED", "The request was aborted before it finished", {
    remedy: "Send it again.",
  });
}

function failed(): EngineError {
  return new EngineError("DEVICE_FAILED", "The device failed while it computed the request", {
    remedy: "Look at the engine's log; the process restarts.",
  });
}
