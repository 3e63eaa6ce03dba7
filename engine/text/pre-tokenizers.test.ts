import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { Checkpoint } from "../models/model-spec.ts";
import { aGguf, type MetadataEntry, refusal, tokenTextsOf } from "./testing.ts";
import { openTokenizer } from "./tokenizer.ts";

describe("pre-tokenizers by GGUF's names", () => {
  for (const { pre, text, words } of [
    { pre: "gpt-2", text: "I'll 123 go", words: ["I", "'ll", "Ġ123", "Ġgo"] },
    { pre: "smollm", text: "a 123", words: ["a", "Ġ", "1", "2", "3"] },
    { pre: "llama-bpe", text: "a 12345", words: ["a", "Ġ", "123", "45"] },
    { pre: "qwen2", text: "a 12", words: ["a", "Ġ", "1", "2"] },
    { pre: "tekken", text: "helloWorld 12", words: ["hello", "World", "Ġ", "1", "2"] },
    { pre: "gpt-4o", text: "helloWorld's 12", words: ["hello", "World's", "Ġ", "12"] },
    { pre: "default", text: "a+1234", words: ["a", "+", "123", "4"] },
  ]) {
    it(`cuts words as ${pre} does`, async () => {
      const tokenizer = openTokenizer(aWordTokenizer(pre, words));

      assert.deepEqual(await tokenTextsOf(tokenizer, text), words);
    });
  }
});

describe("what a pre-tokenizer's name implies", () => {
  it("refuses a pre-tokenizer that it would have to guess", () => {
    const checkpoint = aGguf([
      ["tokenizer.ggml.model", "gpt2"],
      ["tokenizer.ggml.pre", "novel"],
      ["tokenizer.ggml.tokens", ["a"]],
      ["tokenizer.ggml.merges", []],
    ]);

    assert.throws(() => openTokenizer(checkpoint), refusal("MODEL_UNSUPPORTED", /"novel".*qwen2/));
  });

  const bos = ["tokenizer.ggml.bos_token_id", 0] as const;

  it("makes one token of a word that the vocabulary has, for Llama 3's", async () => {
    for (const [pre, expected] of [
      ["llama-bpe", ["abc"]],
      ["qwen2", ["a", "b", "c"]],
    ] as const) {
      const tokenizer = openTokenizer(
        aWordTokenizer(pre, ["abc"], [["tokenizer.ggml.merges", []]]),
      );

      assert.deepEqual(await tokenTextsOf(tokenizer, "abc"), expected);
    }
  });

  it("adds BOS where Llama 3's file does not say, and not for others", async () => {
    for (const [pre, expected] of [
      ["llama-bpe", [0, 0]],
      ["qwen2", [0]],
    ] as const) {
      const tokenizer = openTokenizer(aWordTokenizer(pre, ["a"], [bos]));

      const ids = await tokenizer.encode("a", { addSpecial: true, parseSpecial: false });
      assert.deepEqual([...ids], expected);
    }
  });
});

/** A vocabulary with each word whole, and merges that build it from its left end. */
function aWordTokenizer(
  pre: string,
  words: readonly string[],
  edits: readonly MetadataEntry[] = [],
): Checkpoint {
  const prefixes = words.flatMap((word) => [...word].map((_, i) => word.slice(0, i + 1)));
  const characters = [...words.join("")];
  const merges = words.flatMap((word) =>
    [...word].slice(1).map((character, i) => `${word.slice(0, i + 1)} ${character}`),
  );
  return aGguf([
    ["tokenizer.ggml.model", "gpt2"],
    ["tokenizer.ggml.pre", pre],
    ["tokenizer.ggml.tokens", [...new Set([...characters, ...prefixes])]],
    ["tokenizer.ggml.merges", [...new Set(merges)]],
    ...edits,
  ]);
}
