import { type Fields, ggufFields, invalid, jsonFields } from "./fields.ts";
import type { Checkpoint, GgufValue } from "./model-spec.ts";

/**
 * Tokens that end an answer, in ascending order.
 *
 * Of a folder: those that `generation_config.json` and `config.json` name, and the end token of
 * `tokenizer_config.json`. Of a GGUF file: those that its keys name, and control tokens whose text
 * is a well-known end of turn or of text, because most files name only one of their several.
 *
 * @param tokenId id of a control token's text, for the end token of `tokenizer_config.json`
 */
export function endTokenIds(
  checkpoint: Checkpoint,
  tokenId: (text: string) => number | undefined = () => undefined,
): readonly number[] {
  const { source } = checkpoint;
  const ids =
    source.format === "gguf"
      ? ggufEndTokens(source.metadata)
      : [
          ...configEndTokens(jsonFields("config.json", source.config)),
          ...configEndTokens(jsonFields("generation_config.json", source.generationConfig ?? {})),
          ...tokenizerEndToken(
            jsonFields("tokenizer_config.json", source.tokenizerConfig ?? {}),
            tokenId,
          ),
        ];
  return [...new Set(ids)].sort((a, b) => a - b);
}

/** `eos_token_id` is one id or a list of them. */
function configEndTokens(fields: Fields): readonly number[] {
  const key = "eos_token_id";
  if (!fields.has(key)) return [];
  const ids = fields.isList(key) ? fields.numbers(key) : [fields.number(key)];
  const wrong = ids.find((id) => !Number.isSafeInteger(id) || id < 0);
  if (wrong !== undefined) throw invalid(`${fields.label} has the end token ${wrong}`);
  return ids;
}

function tokenizerEndToken(
  fields: Fields,
  tokenId: (text: string) => number | undefined,
): readonly number[] {
  const key = "eos_token";
  if (!fields.has(key)) return [];
  const text = fields.isObject(key) ? fields.child(key)?.text("content") : fields.text(key);
  const id = text === undefined ? undefined : tokenId(text);
  return id === undefined ? [] : [id];
}

/** As the common chat formats write them. */
const wellKnownEnds: ReadonlySet<string> = new Set([
  "<|im_end|>",
  "<|eot_id|>",
  "<|eom_id|>",
  "<end_of_turn>",
  "<|end|>",
  "<|endoftext|>",
  "<|end_of_text|>",
  "<|end_of_turn|>",
  "<｜end▁of▁sentence｜>",
  "<EOT>",
]);

const controlType = 3;

function ggufEndTokens(metadata: ReadonlyMap<string, GgufValue>): readonly number[] {
  const fields = ggufFields(metadata, "tokenizer.ggml.");
  const named = ["eos_token_id", "eot_token_id", "eom_token_id"].flatMap((key) =>
    fields.has(key) ? [fields.number(key)] : [],
  );
  const types = metadata.get("tokenizer.ggml.token_type");
  const texts = fields.has("tokens") ? fields.texts("tokens") : [];
  const wellKnown = texts.flatMap((text, id) =>
    wellKnownEnds.has(text) && ArrayBuffer.isView(types) && types[id] === controlType ? [id] : [],
  );
  return [...named, ...wellKnown];
}
