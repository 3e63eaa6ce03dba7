/** For the tests of this folder: an engine that answers by rule, and an app around it. */
import type { FastifyInstance } from "fastify";
import { EngineError } from "../errors.ts";
import type {
  Engine,
  EngineStats,
  Generation,
  GenerationRequest,
  GenerationUpdate,
} from "../generation.ts";
import { ModelText } from "../model-text.ts";
import { ChatTemplate } from "../text/chat-template.ts";
import { Tokenizer } from "../text/tokenizer.ts";
import { parseTokenizerJson } from "../text/tokenizer-json.ts";
import { type AppOptions, buildApp } from "./app.ts";
import { Lifecycle } from "./lifecycle.ts";

export const endTokenId = 256;
export const vocabularySize = 258;

/** Says the prompt again, token by token, and then the end token. */
export class EchoEngine implements Engine {
  readonly maxModelLen: number = 1000;
  readonly requests: GenerationRequest[] = [];
  readonly generations: EchoGeneration[] = [];
  /** Tokens of each update. */
  tokensPerUpdate = 1;
  /** Updates that a generation gives before it waits for `release`; undefined never waits. */
  updatesBeforeHold: number | undefined = undefined;
  /** Generations admitted at once. */
  limit = Number.POSITIVE_INFINITY;
  /** Update at which generations end with this reason. */
  breakAt: { readonly update: number; readonly reason: "error" | "abort" } | undefined = undefined;
  overrides: Partial<EngineStats> = {};

  generate(request: GenerationRequest): Generation {
    if (this.generations.filter(({ isOpen }) => isOpen).length >= this.limit) {
      throw new EngineError("QUEUE_FULL", `${this.limit} requests are waiting`, {
        remedy: "Send the request again later.",
      });
    }
    const generation = new EchoGeneration(this, request);
    this.requests.push(request);
    this.generations.push(generation);
    return generation;
  }

  stats(): EngineStats {
    return {
      stepCount: 7,
      stepsInFlight: 0,
      heartbeatMs: Date.now(),
      runningCount: this.generations.filter(({ isOpen }) => isOpen).length,
      waitingCount: 3,
      waitingPromptTokens: 500,
      blockCount: 100,
      blockSize: 16,
      freeBlockCount: 60,
      cachedBlockCount: 15,
      heldBlockCount: 25,
      preemptionCount: 2,
      prefixQueryTokens: 90,
      prefixHitTokens: 30,
      promptTokens: 120,
      generatedTokens: 80,
      batchedTokens: 200,
      stepMs: 1500,
      prefillTokensPerSecond: 100,
      decodeTokensPerSecond: 50,
      ...this.overrides,
    };
  }
}

export class EchoGeneration implements Generation {
  isOpen = true;
  wasAborted = false;
  readonly #engine: EchoEngine;
  readonly #request: GenerationRequest;
  readonly #released = Promise.withResolvers<void>();

  constructor(engine: EchoEngine, request: GenerationRequest) {
    this.#engine = engine;
    this.#request = request;
  }

  abort(): void {
    if (this.isOpen) this.wasAborted = true;
    this.isOpen = false;
    this.#released.resolve();
  }

  release(): void {
    this.#released.resolve();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GenerationUpdate> {
    const { updatesBeforeHold, tokensPerUpdate, breakAt } = this.#engine;
    const tokens = this.#output();
    for (let update = 0; update * tokensPerUpdate < tokens.length; update++) {
      if (update === updatesBeforeHold) await this.#released.promise;
      await new Promise(setImmediate);
      if (!this.isOpen) yield updateOf(this.#request, [], "abort");
      if (update === breakAt?.update) yield updateOf(this.#request, [], breakAt.reason);
      const end = (update + 1) * tokensPerUpdate;
      const part = tokens.slice(update * tokensPerUpdate, end);
      if (end < tokens.length) {
        yield updateOf(this.#request, part, undefined);
        continue;
      }
      this.isOpen = false;
      const stops = this.#request.stopTokenIds.includes(part.at(-1) ?? -1);
      yield updateOf(this.#request, part, stops ? "stop" : "length");
    }
  }

  #output(): number[] {
    const { promptTokenIds, maxTokens, stopTokenIds, sampling } = this.#request;
    const tokens: number[] = [];
    while (tokens.length < maxTokens) {
      const place = tokens.length % (promptTokenIds.length + 1);
      const token = promptTokenIds[place] ?? endTokenId;
      const stops = stopTokenIds.includes(token);
      if (stops && tokens.length < sampling.minTokens) tokens.push("-".charCodeAt(0));
      else tokens.push(token);
      if (stops && tokens.length > sampling.minTokens) break;
    }
    return tokens;
  }
}

function updateOf(
  { sampling, promptTokenIds }: GenerationRequest,
  tokenIds: readonly number[],
  finishReason: GenerationUpdate["finishReason"],
): GenerationUpdate {
  const wanted = sampling.topLogprobs;
  return {
    tokenIds,
    logprobs: wanted < 0 ? [] : tokenIds.map(() => -0.5),
    topLogprobs:
      wanted < 0
        ? []
        : tokenIds.map((id) =>
            Array.from(
              { length: wanted },
              (_, i) => [(id + i) % 256, i === 0 ? -0.5 : -Infinity] as const,
            ),
          ),
    cachedTokenCount: promptTokenIds.length > 16 ? 16 : 0,
    finishReason,
  };
}

/** A byte-level tokenizer without merges: token b is byte b; 256 ends, 257 is a control token. */
export function byteTokenizer(): Tokenizer {
  const vocab = Object.fromEntries(byteCharacters().map((character, byte) => [character, byte]));
  const special = (id: number, content: string) => ({
    id,
    content,
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  });
  return new Tokenizer(
    parseTokenizerJson(
      JSON.stringify({
        version: "1.0",
        truncation: null,
        padding: null,
        added_tokens: [special(256, "<|end|>"), special(257, "<|turn|>")],
        normalizer: null,
        pre_tokenizer: {
          type: "ByteLevel",
          add_prefix_space: false,
          trim_offsets: true,
          use_regex: false,
        },
        post_processor: null,
        decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
        model: { type: "BPE", dropout: null, unk_token: null, vocab, merges: [] },
      }),
    ),
  );
}

/** Each byte as the visible character that GPT-2's vocabulary writes for it. */
function byteCharacters(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const isVisible = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCodePoint(isVisible ? byte : next++);
  });
}

const template =
  "{% for m in messages %}<|turn|>{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<|turn|>{% endif %}";

export interface TestServer {
  readonly app: FastifyInstance;
  readonly engine: EchoEngine;
  readonly lifecycle: Lifecycle;
}

const limits = {
  maxBodyBytes: 100_000,
  maxChoices: 8,
  maxStreamBufferBytes: 100_000,
  stallTimeoutSeconds: 5,
};

/** An app that serves the models `echo` and `org/echo`. */
export async function aServer(
  overrides: Partial<Omit<AppOptions, "limits">> & { limits?: Partial<AppOptions["limits"]> } = {},
): Promise<TestServer> {
  const engine = new EchoEngine();
  const lifecycle = overrides.lifecycle ?? new Lifecycle();
  const tokenizer = byteTokenizer();
  lifecycle.serve({
    engine,
    text: new ModelText({
      tokenizer,
      chatTemplate: new ChatTemplate(template, {}, tokenizer.specialTokens),
      vocabularySize,
      endTokenIds: [endTokenId],
      samplingDefaults: {},
    }),
    modelNames: ["echo", "org/echo"],
    createdSeconds: 1,
  });
  const app = await buildApp({
    apiKeys: undefined,
    version: "1.2.3",
    logger: false,
    ...overrides,
    lifecycle,
    limits: { ...limits, ...overrides.limits },
  });
  return { app, engine, lifecycle };
}

/** Waits for a condition that another party brings about. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 5000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited 5 s for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
