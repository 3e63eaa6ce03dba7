import { EngineError } from "../errors.ts";
import type { JsonObject } from "../models/model-spec.ts";

/** How text is cut before byte-pair merges, and what else GGUF's name for it implies. */
export interface PreTokenizer {
  /** Patterns applied one after the other; what they do not match stays whole. */
  readonly patterns: readonly string[];
  /** A whole word that is in the vocabulary is one token, whatever the merges say. */
  readonly ignoreMerges: boolean;
  /** Whether a BOS is added where the file does not say. */
  readonly addBos: boolean;
}

const contractions = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]";
const spaces = "\\s+(?!\\S)|\\s+";
const gpt2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|${spaces}`;

/** The pattern of Llama 3 and Qwen 2, which differ in how many digits stay together. */
function modern(digits: string): string {
  return (
    `(?:${contractions})|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}` +
    `| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|${spaces}`
  );
}

/** The pattern of Tekken and GPT-4o: words also break between a lower and an upper letter. */
function cased(digits: string, suffix: string): string {
  const upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
  const lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
  const before = "[^\\r\\n\\p{L}\\p{N}]?";
  return (
    `${before}${upper}*${lower}+${suffix}|${before}${upper}+${lower}*${suffix}|${digits}` +
    `| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|${spaces}`
  );
}

const plain = (...patterns: string[]): PreTokenizer => ({
  patterns,
  ignoreMerges: false,
  addBos: false,
});
const wholeWords = (pattern: string): PreTokenizer => ({
  patterns: [pattern],
  ignoreMerges: true,
  addBos: true,
});

const gpt2Words = plain(gpt2);
/** Every digit stands alone. */
const singleDigits = plain("\\p{N}", gpt2);
const llama3 = wholeWords(modern("\\p{N}{1,3}"));
const qwen2 = plain(modern("\\p{N}"));

/** By `tokenizer.ggml.pre`. */
const preTokenizers: ReadonlyMap<string, PreTokenizer> = new Map([
  ["default", plain("[\\p{P}\\$\\+<=>\\^~\\|]+", gpt2, "\\p{N}+", "[0-9][0-9][0-9]")],
  ["gpt-2", gpt2Words],
  ["phi-2", gpt2Words],
  ["mpt", gpt2Words],
  ["olmo", gpt2Words],
  ["granite-docling", gpt2Words],
  ["smollm", singleDigits],
  ["starcoder", singleDigits],
  ["refact", singleDigits],
  ["command-r", singleDigits],
  ["llama-bpe", llama3],
  ["llama3", llama3],
  ["llama-v3", llama3],
  ["falcon3", llama3],
  ["pixtral", llama3],
  ["dbrx", plain(modern("\\p{N}{1,3}"))],
  ["smaug-bpe", plain(modern("\\p{N}{1,3}"))],
  ["qwen2", qwen2],
  ["deepseek-r1-qwen", qwen2],
  ["stablelm2", qwen2],
  ["megrez", qwen2],
  ["tekken", wholeWords(cased("\\p{N}", ""))],
  ["gpt-4o", plain(cased("\\p{N}{1,3}", `(?:${contractions})?`))],
]);

/**
 * The cutting rules behind a name in `tokenizer.ggml.pre`, as llama.cpp defines these names.
 *
 * @throws EngineError MODEL_UNSUPPORTED for a name that is not known: guessing would change tokens
 */
export function preTokenizerNamed(name: string): PreTokenizer {
  const found = preTokenizers.get(name);
  if (found !== undefined) return found;
  throw new EngineError("MODEL_UNSUPPORTED", `The pre-tokenizer "${name}" is not supported`, {
    remedy: `Use a GGUF file with one of these: ${[...preTokenizers.keys()].join(", ")}.`,
  });
}

/** The same as `tokenizer.json` writes it, followed by the byte alphabet. */
export function preTokenizerJson({ patterns }: PreTokenizer): JsonObject {
  const splits = patterns.map((pattern) => ({
    type: "Split",
    pattern: { Regex: pattern },
    behavior: "Isolated",
    invert: false,
  }));
  const bytes = {
    type: "ByteLevel",
    add_prefix_space: false,
    trim_offsets: false,
    use_regex: false,
  };
  return { type: "Sequence", pretokenizers: [...splits, bytes] };
}
