/**
 * The fields that /v1/completions and /v1/chat/completions share, as JSON Schema: the route's
 * validation, /openapi.json and the limits that an error names come from here. Any field may be
 * null, which is the same as leaving it out.
 */

export const maxStops = 16;
export const maxStopChars = 256;
export const maxListedTokens = 1024;
export const maxCacheSaltChars = 256;
export const maxLogprobs = 20;

/** Wire names, as OpenAI and vLLM spell them. */
export interface SamplingFields {
  readonly temperature?: number | null;
  readonly top_p?: number | null;
  readonly top_k?: number | null;
  readonly min_p?: number | null;
  readonly presence_penalty?: number | null;
  readonly frequency_penalty?: number | null;
  readonly repetition_penalty?: number | null;
  readonly logit_bias?: Readonly<Record<string, number>> | null;
  readonly seed?: number | null;
  readonly n?: number | null;
  readonly max_tokens?: number | null;
  readonly max_completion_tokens?: number | null;
  readonly min_tokens?: number | null;
  readonly stop?: string | readonly string[] | null;
  readonly stop_token_ids?: readonly number[] | null;
  readonly include_stop_str_in_output?: boolean | null;
  readonly ignore_eos?: boolean | null;
}

function number(description: string, limits: Readonly<Record<string, number>>) {
  return { type: ["number", "null"], description, ...limits };
}

function integer(description: string, minimum: number, maximum: number) {
  return { type: ["integer", "null"], description, minimum, maximum };
}

function boolean(description: string) {
  return { type: ["boolean", "null"], description };
}

const int32 = 2 ** 31 - 1;
const tokenId = { type: "integer", minimum: 0, maximum: int32 };

export const samplingFields = {
  temperature: number("0 is greedy. Default 1.", { minimum: 0, maximum: 2 }),
  top_p: number("Nucleus sampling; 1 is off. Default 1.", { exclusiveMinimum: 0, maximum: 1 }),
  top_k: integer("Most likely tokens to draw from; 0 or -1 is off. Default 0.", -1, int32),
  min_p: number("Least share of the likeliest token's probability; 0 is off.", {
    minimum: 0,
    maximum: 1,
  }),
  presence_penalty: number("Default 0.", { minimum: -2, maximum: 2 }),
  frequency_penalty: number("Default 0.", { minimum: -2, maximum: 2 }),
  repetition_penalty: number("Counts prompt and output; 1 is off. Default 1.", {
    exclusiveMinimum: 0,
    maximum: 2,
  }),
  logit_bias: {
    type: ["object", "null"],
    description: "Token id to what is added to its logit; -100 bans.",
    maxProperties: maxListedTokens,
    additionalProperties: { type: "number", minimum: -100, maximum: 100 },
  },
  seed: integer(
    "Repeats a drawing; left out, it is random.",
    Number.MIN_SAFE_INTEGER,
    Number.MAX_SAFE_INTEGER,
  ),
  n: integer("Choices for each prompt. Default 1.", 1, 4096),
  max_tokens: integer("Tokens to generate at most.", 1, int32),
  max_completion_tokens: integer("The same as max_tokens.", 1, int32),
  min_tokens: integer("Tokens to generate before anything may stop. Default 0.", 0, int32),
  stop: {
    type: ["string", "array", "null"],
    description: "Text that ends the output and is left out of it.",
    minLength: 1,
    maxLength: maxStopChars,
    maxItems: maxStops,
    items: { type: "string", minLength: 1, maxLength: maxStopChars },
  },
  stop_token_ids: {
    type: ["array", "null"],
    description: "Tokens that end the output.",
    maxItems: maxListedTokens,
    items: tokenId,
  },
  include_stop_str_in_output: boolean("Keep the matched stop text. Default false."),
  ignore_eos: boolean("Generate past the model's end tokens. Default false."),
} as const;

/** Fields of the two generating endpoints that are about scheduling and delivery. */
export const deliveryFields = {
  stream: boolean("Answer with server-sent events."),
  stream_options: {
    type: ["object", "null"],
    description: "Only with stream.",
    additionalProperties: false,
    properties: {
      include_usage: boolean("One chunk of usage before [DONE]."),
      continuous_usage_stats: boolean("Usage on every chunk."),
      include_obfuscation: boolean("Accepted, without effect."),
    },
  },
  priority: integer("Lower runs first. Default 0.", -int32, int32),
  cache_salt: {
    type: ["string", "null"],
    description: "Cached blocks are shared only under the same salt.",
    maxLength: maxCacheSaltChars,
  },
  return_token_ids: boolean("Add token_ids to each choice, and prompt_token_ids."),
} as const;
