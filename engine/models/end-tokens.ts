import type { Checkpoint, GgufValue, JsonValue } from "./model-spec.ts";

/** Control tokens that end an answer in the chat formats of the models we serve. */
const endOfTurn = new Set(["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>"]);
const ggufControlToken = 3;

/**
 * Tokens that end an answer, in rising order: what `generation_config.json` and `config.json` name,
 * or a GGUF file's end tokens together with its control tokens that end a turn, which many files
 * forget to name.
 */
export function endTokenIds({ source }: Checkpoint): readonly number[] {
  const ids =
    source.format === "gguf"
      ? ggufEndTokens(source.metadata)
      : [source.generationConfig, source.config].flatMap((c) => idsOf(c?.["eos_token_id"]));
  return [...new Set(ids)].sort((a, b) => a - b);
}

/** `eos_token_id` is one id or a list of them. */
function idsOf(value: JsonValue | undefined): number[] {
  const values = Array.isArray(value) ? value : [value];
  return values.filter((id): id is number => typeof id === "number" && Number.isInteger(id));
}

function ggufEndTokens(metadata: ReadonlyMap<string, GgufValue>): number[] {
  const named = ["eos", "eot", "eom"].flatMap((name) => {
    const id = metadata.get(`tokenizer.ggml.${name}_token_id`);
    return typeof id === "number" ? [id] : [];
  });
  const texts = metadata.get("tokenizer.ggml.tokens");
  const types = metadata.get("tokenizer.ggml.token_type");
  if (!Array.isArray(texts) || !(types instanceof Int32Array)) return named;
  const turns = texts.flatMap((text, id) =>
    types[id] === ggufControlToken && endOfTurn.has(text as string) ? [id] : [],
  );
  return [...named, ...turns];
}
