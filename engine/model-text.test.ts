import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { EngineError } from "./errors.ts";
import { ModelText } from "./model-text.ts";
import { Tokenizer } from "./text/tokenizer.ts";
import { parseTokenizerJson } from "./text/tokenizer-json.ts";

const endTokenId = 3;

describe("ModelText", () => {
  it("drops the leading space of an answer and keeps that of a continuation", () => {
    const text = aText();
    const answer = text.tokenDecoder(false);
    const continuation = text.tokenDecoder(true);

    assert.equal(answer.push(0) + answer.push(1), "a");
    assert.equal(continuation.push(0) + continuation.push(1), " a");
  });

  it("reads control tokens that a prompt spells out", async () => {
    const ids = await aText().encode("a<end>", false);

    assert.ok(ids.includes(endTokenId), `${ids}`);
  });

  it("answers the bytes of whole characters and of parts of them", () => {
    const text = aText();

    assert.deepEqual([...text.tokenBytes(1)], [97]);
    assert.deepEqual([...text.tokenBytes(2)], [0xc3]);
  });

  it("refuses conversations when the model has no chat template", () => {
    assert.throws(
      () => aText().renderChat([], { addGenerationPrompt: true, extra: {} }),
      (error: unknown) => error instanceof EngineError && error.code === "REQUEST_INVALID",
    );
  });
});

/** A SentencePiece tokenizer of four tokens, without a chat template. */
function aText(): ModelText {
  const json = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [
      {
        id: endTokenId,
        content: "<end>",
        special: true,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
      },
    ],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      byte_fallback: true,
      vocab: { "▁": 0, a: 1, "<0xC3>": 2, "<end>": endTokenId },
      merges: [],
    },
  };
  return new ModelText({
    tokenizer: new Tokenizer(parseTokenizerJson(JSON.stringify(json))),
    chatTemplate: undefined,
    vocabularySize: 4,
    endTokenIds: [endTokenId],
    samplingDefaults: {},
  });
}
