import { EngineError } from "../errors.ts";
import type { GgufValue, JsonObject, JsonValue } from "../models/model-spec.ts";
import { preTokenizerJson, preTokenizerNamed } from "./pre-tokenizers.ts";
import { scoredMerges } from "./scored-merges.ts";
import type { AddedToken, TokenizerJson } from "./tokenizer-json.ts";

export type GgufMetadata = ReadonlyMap<string, GgufValue>;

/** `tokenizer.ggml.token_type`, as llama.cpp numbers it. */
export const ggufTokenType = { unknown: 2, control: 3, userDefined: 4, byte: 6 } as const;

const prefix = "tokenizer.ggml.";

/**
 * Builds the `tokenizer.json` that means the same as a GGUF file's vocabulary: byte-level BPE
 * (`gpt2`), or SentencePiece with scores (`llama`) as BPE whose merges are ordered by score.
 *
 * @throws EngineError MODEL_UNSUPPORTED for another kind, CHECKPOINT_INVALID for missing parts
 */
export function tokenizerJsonOfGguf(metadata: GgufMetadata): TokenizerJson {
  const kind = metadata.get(`${prefix}model`);
  if (kind === "gpt2") return byteLevel(metadata);
  if (kind === "llama") return sentencePiece(metadata);
  throw new EngineError("MODEL_UNSUPPORTED", `The tokenizer "${kind}" is not supported`, {
    remedy: "Use a GGUF file whose tokenizer.ggml.model is gpt2 or llama.",
  });
}

export function ggufTokenTexts(metadata: GgufMetadata): readonly string[] {
  return stringList(metadata, "tokens");
}

/** Type of each token; the usual one where the file does not say. */
function ggufTokenTypes(metadata: GgufMetadata): ArrayLike<number> {
  const types = metadata.get(`${prefix}token_type`);
  return ArrayBuffer.isView(types) ? types : [];
}

/** A token id of the metadata, such as `bos_token_id`. */
export function ggufTokenId(metadata: GgufMetadata, name: string): number | undefined {
  const id = metadata.get(prefix + name);
  return typeof id === "number" ? id : undefined;
}

function byteLevel(metadata: GgufMetadata): TokenizerJson {
  const rules = preTokenizerNamed(String(metadata.get(`${prefix}pre`) ?? "default"));
  return {
    added_tokens: addedTokens(metadata),
    normalizer: null,
    pre_tokenizer: preTokenizerJson(rules),
    post_processor: postProcessor(metadata, rules.addBos),
    decoder: { type: "ByteLevel" },
    model: {
      type: "BPE",
      ignore_merges: rules.ignoreMerges,
      vocab: vocabulary(metadata),
      merges: stringList(metadata, "merges").map(splitMerge),
    },
  };
}

function sentencePiece(metadata: GgufMetadata): TokenizerJson {
  const texts = ggufTokenTexts(metadata);
  const types = ggufTokenTypes(metadata);
  const scores = metadata.get(`${prefix}scores`);
  if (!(scores instanceof Float32Array)) throw lacking("scores");
  const isText = (id: number) =>
    types[id] !== ggufTokenType.control &&
    types[id] !== ggufTokenType.unknown &&
    types[id] !== ggufTokenType.byte;
  const addsSpace = metadata.get(`${prefix}add_space_prefix`) !== false;
  const unknown = texts[ggufTokenId(metadata, "unknown_token_id") ?? -1];
  const space = { type: "Replace", pattern: { String: " " }, content: "▁" };
  return {
    added_tokens: addedTokens(metadata),
    normalizer: addsSpace
      ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, space] }
      : space,
    pre_tokenizer: null,
    post_processor: postProcessor(metadata, true),
    decoder: sentencePieceDecoder(addsSpace),
    model: {
      type: "BPE",
      unk_token: unknown ?? null,
      fuse_unk: true,
      byte_fallback: true,
      vocab: vocabulary(metadata),
      merges: scoredMerges(texts, scores, isText),
    },
  };
}

function sentencePieceDecoder(stripsSpace: boolean): JsonObject {
  const decoders = [
    { type: "Replace", pattern: { String: "▁" }, content: " " },
    { type: "ByteFallback" },
    { type: "Fuse" },
  ];
  const strip = { type: "Strip", content: " ", start: 1, stop: 0 };
  return { type: "Sequence", decoders: stripsSpace ? [...decoders, strip] : decoders };
}

function vocabulary(metadata: GgufMetadata): Readonly<Record<string, number>> {
  const vocab = new Map<string, number>();
  for (const [id, text] of ggufTokenTexts(metadata).entries()) {
    const other = vocab.get(text);
    if (other !== undefined && text !== "") {
      throw new EngineError("CHECKPOINT_INVALID", `Tokens ${other} and ${id} are the same text`, {
        remedy: "Use a GGUF file whose tokens differ.",
      });
    }
    if (text !== "") vocab.set(text, id);
  }
  return Object.fromEntries(vocab);
}

function addedTokens(metadata: GgufMetadata): AddedToken[] {
  const types = ggufTokenTypes(metadata);
  const { control, unknown, userDefined } = ggufTokenType;
  const stripsAfter = spaceStrippers(metadata);
  return ggufTokenTexts(metadata).flatMap((content, id) => {
    const type = types[id];
    const special = type === control || type === unknown;
    if (content === "" || !(special || type === userDefined)) return [];
    const rstrip = stripsAfter(content);
    return [{ id, content, single_word: false, lstrip: false, rstrip, normalized: false, special }];
  });
}

/**
 * Phi 3's added tokens swallow the spaces and newlines after them. Its `tokenizer.json` says so,
 * GGUF cannot.
 */
function spaceStrippers(metadata: GgufMetadata): (content: string) => boolean {
  const isPhi3 =
    metadata.get("general.architecture") === "phi3" && metadata.get(`${prefix}model`) === "llama";
  const exceptions = new Set(["<unk>", "<s>", "<|endoftext|>"]);
  return (content) => isPhi3 && !exceptions.has(content);
}

function postProcessor(metadata: GgufMetadata, addsBosByDefault: boolean): JsonValue {
  const addsBos = metadata.get(`${prefix}add_bos_token`) ?? addsBosByDefault;
  const addsEos = metadata.get(`${prefix}add_eos_token`) ?? false;
  const bos = addsBos === true ? ggufTokenId(metadata, "bos_token_id") : undefined;
  const eos = addsEos === true ? ggufTokenId(metadata, "eos_token_id") : undefined;
  if (bos === undefined && eos === undefined) return null;
  const special = (name: string, id: number | undefined): JsonValue[] =>
    id === undefined ? [] : [{ SpecialToken: { id: name, type_id: 0 } }];
  const definition = (name: string, id: number | undefined): [string, JsonValue][] =>
    id === undefined ? [] : [[name, { id: name, ids: [id], tokens: [name] }]];
  const text = { Sequence: { id: "A", type_id: 0 } };
  const single = [...special("bos", bos), text, ...special("eos", eos)];
  return {
    type: "TemplateProcessing",
    single,
    pair: [...single, { Sequence: { id: "B", type_id: 1 } }],
    special_tokens: Object.fromEntries([...definition("bos", bos), ...definition("eos", eos)]),
  };
}

/** The first space that is not the first character separates the halves. */
function splitMerge(merge: string): JsonValue {
  const space = merge.indexOf(" ", 1);
  return [merge.slice(0, space), merge.slice(space + 1)];
}

function stringList(metadata: GgufMetadata, name: string): readonly string[] {
  const list = metadata.get(prefix + name);
  if (!Array.isArray(list) || typeof (list[0] ?? "") !== "string") throw lacking(name);
  return list;
}

function lacking(name: string): EngineError {
  return new EngineError("CHECKPOINT_INVALID", `The GGUF file lacks "${prefix}${name}"`, {
    remedy: "Use a GGUF file with a whole tokenizer.",
  });
}
