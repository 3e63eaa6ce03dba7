import { EngineError } from "../errors.ts";

/** Accepted and without effect: what clients send for services around a model. */
export const ignoredFields = [
  "user",
  "metadata",
  "store",
  "service_tier",
  "safety_identifier",
  "prompt_cache_key",
  "prompt_cache_retention",
  "parallel_tool_calls",
  "request_id",
] as const;

type Accepts = (value: unknown) => boolean;

const never: Accepts = () => false;
const emptyList: Accepts = (value) => Array.isArray(value) && value.length === 0;
const only =
  (...values: readonly unknown[]): Accepts =>
  (value) =>
    values.includes(value);
const onlyTextFormat: Accepts = (value) =>
  typeof value === "object" && value !== null && "type" in value && value.type === "text";
const onlyTextModality: Accepts = (value) =>
  Array.isArray(value) && value.every((item) => item === "text");

/** Fields that change what is generated and that Quire lacks, with the values that ask nothing. */
const unsupported: Readonly<Record<string, Accepts>> = {
  tools: emptyList,
  tool_choice: only("none"),
  functions: emptyList,
  function_call: only("none"),
  response_format: onlyTextFormat,
  structured_outputs: never,
  guided_json: never,
  guided_regex: never,
  guided_choice: never,
  guided_grammar: never,
  guided_decoding_backend: never,
  modalities: onlyTextModality,
  audio: never,
  prediction: never,
  web_search_options: never,
  reasoning_effort: never,
  verbosity: only("medium"),
  best_of: only(1),
  suffix: only(""),
  prompt_logprobs: never,
  use_beam_search: only(false),
  length_penalty: only(1),
  truncate_prompt_tokens: never,
  allowed_token_ids: emptyList,
  bad_words: emptyList,
  logits_processors: emptyList,
};

export const unsupportedFields = Object.keys(unsupported);

/**
 * @throws EngineError UNSUPPORTED_FIELD naming the first field whose value Quire cannot honour
 */
export function refuseUnsupportedFields(body: Readonly<Record<string, unknown>>): void {
  for (const field of unsupportedFields) {
    const value = body[field];
    if (value === undefined || value === null || unsupported[field]?.(value) === true) continue;
    throw new EngineError("UNSUPPORTED_FIELD", `${field} is not supported`, {
      remedy: `Leave ${field} out.`,
      param: field,
    });
  }
}
