import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { smollm2File } from "../../e2e/smollm2.ts";
import { openCheckpoint } from "../checkpoint/checkpoint.ts";
import type { Checkpoint } from "../models/model-spec.ts";
import { aFolder, aGguf, type MetadataEntry, refusal, tokenTextsOf } from "./testing.ts";
import { openTokenizer, type Tokenizer } from "./tokenizer.ts";

const fixtures = join(import.meta.dirname, "fixtures");
const parsed = { addSpecial: false, parseSpecial: true };
const plain = { addSpecial: false, parseSpecial: false };

describe("Tokenizer of SmolLM2's GGUF file", () => {
  let tokenizer: Tokenizer;
  const { cases } = JSON.parse(readFileSync(join(fixtures, "tokenizer-smollm2.json"), "utf8"));
  before(async () => {
    tokenizer = openTokenizer(await openCheckpoint(await smollm2File()));
  });

  it("cuts every text as llama.cpp does, with control tokens and without", async () => {
    assert.equal(cases.length, 40);
    for (const { text, special, plain: ordinary, add_special } of cases) {
      assert.deepEqual([...(await tokenizer.encode(text, parsed))], special, text);
      assert.deepEqual([...(await tokenizer.encode(text, plain))], ordinary, text);
      const added = await tokenizer.encode(text, { addSpecial: true, parseSpecial: true });
      assert.deepEqual([...added], add_special, text);
    }
  });

  it("knows the bytes of every token, and gives the text back", () => {
    for (const { text, special, pieces_hex } of cases) {
      const bytes = special.map((id: number) => Buffer.from(tokenizer.pieces.piece(id)));
      assert.deepEqual(
        bytes.map((piece: Buffer) => piece.toString("hex")),
        pieces_hex,
      );
      assert.equal(tokenizer.decode(special, true), text);
    }
  });

  it("leaves control tokens out of decoded text unless asked", async () => {
    const ids = await tokenizer.encode("<|im_start|>user\nHi<|im_end|>", parsed);

    assert.equal(tokenizer.decode(ids), "user\nHi");
    assert.equal(tokenizer.decode(ids, true), "<|im_start|>user\nHi<|im_end|>");
  });
});

describe("Tokenizer of tokenizer.json", () => {
  it("parses control tokens only where it is told to", async () => {
    const tokenizer = openTokenizer(await openCheckpoint(tinyCheckpoint("llama2")));
    const text = "<|im_start|>the mill<|im_end|>";

    const [first, ...rest] = await tokenizer.encode(text, parsed);
    assert.equal(first, 1);
    assert.equal(rest.at(-1), 2);
    const ordinary = await tokenizer.encode(text, plain);
    assert.ok(ordinary.every((id) => !tokenizer.pieces.isSpecial(id)));
    assert.equal(tokenizer.decode(ordinary), text);
  });

  it("agrees with the same vocabulary in a GGUF file", async () => {
    const folder = tinyCheckpoint("llama3");
    const fromJson = openTokenizer(await openCheckpoint(folder));
    const fromGguf = openTokenizer(await openCheckpoint(join(folder, "model.gguf")));

    for (const text of ["the bridge, then 12 naïve 日本 dogs'll run\n\n", "<|im_end|> <|im", ""]) {
      for (const options of [parsed, plain]) {
        assert.deepEqual(
          await fromGguf.encode(text, options),
          await fromJson.encode(text, options),
        );
      }
    }
  });

  it("keeps the ids of added tokens that stand beyond the vocabulary with a gap", async () => {
    const tokenizer = openTokenizer(
      aFolder({
        tokenizerJson: JSON.stringify({
          added_tokens: [added(9, "<|x|>", true), added(7, "<é>", false)],
          decoder: { type: "ByteLevel" },
          model: { vocab: { a: 0, b: 1, ab: 2 }, merges: [["a", "b"]] },
        }),
      }),
    );

    assert.deepEqual([...(await tokenizer.encode("ab<|x|><é>a", parsed))], [2, 9, 7, 0]);
    assert.equal(tokenizer.tokenCount, 10);
    assert.equal(tokenizer.pieces.piece(8), "");
    assert.equal(tokenizer.addedTokenId("<é>"), 7);
    assert.equal(tokenizer.decode([7]), "<é>");
  });

  it("finds no control token as a whole word either", async () => {
    const tokenizer = openTokenizer(
      aFolder({
        tokenizerJson: JSON.stringify({
          added_tokens: [added(2, "ab", true)],
          decoder: { type: "ByteLevel" },
          model: { ignore_merges: true, vocab: { a: 0, b: 1, ab: 2 }, merges: [] },
        }),
      }),
    );

    assert.deepEqual([...(await tokenizer.encode("ab", plain))], [0, 1]);
    assert.deepEqual([...(await tokenizer.encode("ab", parsed))], [2]);
  });

  it("gives the unknown token for what the vocabulary cannot write", async () => {
    const tokenizer = openTokenizer(
      aFolder({
        tokenizerJson: JSON.stringify({
          added_tokens: [added(1, "<unk>", true)],
          decoder: { type: "ByteLevel" },
          model: { unk_token: "<unk>", vocab: { a: 0, "<unk>": 1 }, merges: [] },
        }),
      }),
    );

    assert.deepEqual([...(await tokenizer.encode("az", plain))], [0, 1]);
  });

  for (const { name, json, code, says } of [
    { name: "text that is not JSON", json: "{", code: "CHECKPOINT_INVALID", says: /not JSON/ },
    {
      name: "a tokenizer without merges",
      json: '{"model": {"vocab": {}}}',
      code: "CHECKPOINT_INVALID",
      says: /merges/,
    },
    {
      name: "another model than BPE",
      json: '{"model": {"type": "Unigram", "vocab": []}}',
      code: "MODEL_UNSUPPORTED",
      says: /Unigram/,
    },
    {
      name: "a decoder of neither kind",
      json: '{"decoder": {"type": "WordPiece"}, "model": {"vocab": {}, "merges": []}}',
      code: "MODEL_UNSUPPORTED",
      says: /decoder/,
    },
    {
      name: "merges of tokens that the vocabulary lacks",
      json: '{"decoder": {"type": "ByteLevel"}, "model": {"vocab": {"a": 0}, "merges": [["a", "b"]]}}',
      code: "CHECKPOINT_INVALID",
      says: /cannot be built/,
    },
  ] as const) {
    it(`refuses ${name}`, () => {
      assert.throws(() => openTokenizer(aFolder({ tokenizerJson: json })), refusal(code, says));
    });
  }
});

describe("Tokenizer of a SentencePiece vocabulary in a GGUF file", () => {
  it("joins the pair with the best score first, and falls back to bytes", async () => {
    const tokenizer = openTokenizer(aSentencePiece());

    assert.deepEqual(await tokenTextsOf(tokenizer, "abc"), ["▁", "a", "bc"]);
    assert.deepEqual(await tokenTextsOf(tokenizer, "ab"), ["▁", "ab"]);
    assert.deepEqual(await tokenTextsOf(tokenizer, "a€"), ["▁", "a", "<0xE2>", "<0x82>", "<0xAC>"]);
  });

  it("adds a space before the text, and BOS, as the format does by default", async () => {
    const tokenizer = openTokenizer(aSentencePiece());
    const ids = await tokenizer.encode("ab c", { addSpecial: true, parseSpecial: false });

    assert.deepEqual(
      [...ids].map((id) => tokenizer.pieces.text(id)),
      ["<s>", "▁", "ab", "▁", "c"],
    );
    assert.equal(tokenizer.decode(ids), "ab c");
  });

  it("adds neither where the file says no", async () => {
    const tokenizer = openTokenizer(
      aSentencePiece([
        ["tokenizer.ggml.add_space_prefix", false],
        ["tokenizer.ggml.add_bos_token", false],
      ]),
    );
    const ids = await tokenizer.encode(" ab", { addSpecial: true, parseSpecial: false });

    assert.deepEqual(
      [...ids].map((id) => tokenizer.pieces.text(id)),
      ["▁", "ab"],
    );
    assert.equal(tokenizer.decode(ids), " ab");
  });

  it("adds EOS where the file asks for it", async () => {
    const tokenizer = openTokenizer(
      aSentencePiece([
        ["tokenizer.ggml.add_eos_token", true],
        ["tokenizer.ggml.eos_token_id", 2],
      ]),
    );
    const ids = await tokenizer.encode("a", { addSpecial: true, parseSpecial: false });

    assert.deepEqual([ids.at(0), ids.at(-1)], [1, 2]);
  });

  it("matches user-defined tokens in plain text too, and control tokens never", async () => {
    const tokenizer = openTokenizer(aSentencePiece());

    const ids = await tokenizer.encode("a<br><s>", plain);

    assert.ok(ids.includes(tokenizer.addedTokenId("<br>") ?? -1));
    assert.ok(!ids.includes(1));
  });

  it("writes out what looks like a byte token", async () => {
    const steps = [..."<0x0A"].map((_, i) => "<0x0A".slice(0, i + 1));
    const pieces = [...new Set([...steps, ..."0xA>"])];
    const tokenizer = openTokenizer(aSentencePiece([], pieces));

    assert.deepEqual(await tokenTextsOf(tokenizer, "<0x0A>"), ["▁", "<0x0A", ">"]);
  });

  it("lets Phi 3's added tokens swallow the newline after them", async () => {
    const phi = openTokenizer(aSentencePiece([["general.architecture", "phi3"]]));
    const other = openTokenizer(aSentencePiece());
    const text = "<br>\na";

    assert.deepEqual(await tokenTextsOf(phi, text), ["<br>", "▁", "a"]);
    assert.deepEqual(await tokenTextsOf(other, text), ["<br>", "▁", "<0x0A>", "a"]);
  });

  for (const { name, edit, code, says } of [
    {
      name: "another kind of tokenizer",
      edit: ["tokenizer.ggml.model", "bert"],
      code: "MODEL_UNSUPPORTED",
      says: /"bert".*gpt2 or llama/,
    },
    {
      name: "missing scores",
      edit: ["tokenizer.ggml.scores", ""],
      code: "CHECKPOINT_INVALID",
      says: /lacks "tokenizer.ggml.scores"/,
    },
    {
      name: "two tokens with one text",
      edit: ["tokenizer.ggml.tokens", ["a", "b", "a"]],
      code: "CHECKPOINT_INVALID",
      says: /Tokens 0 and 2/,
    },
  ] as const) {
    it(`refuses ${name}`, () => {
      assert.throws(() => openTokenizer(aSentencePiece([edit])), refusal(code, says));
    });
  }
});

function tinyCheckpoint(name: string): string {
  return join(import.meta.dirname, "..", "models", "fixtures", name);
}

function added(id: number, content: string, special: boolean) {
  const exact = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  return { id, content, special, ...exact };
}

/** Three control tokens, a user-defined one, the bytes, and a few pieces with scores. */
function aSentencePiece(
  edits: readonly MetadataEntry[] = [],
  more: readonly string[] = [],
): Checkpoint {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const pieces: [string, number][] = [
    ["▁", -9],
    ["a", -10],
    ["b", -11],
    ["c", -12],
    ["ab", -5],
    ["bc", -3],
    ...more.map((text): [string, number] => [text, -1]),
  ];
  const tokens = ["<unk>", "<s>", "</s>", "<br>", ...bytes, ...pieces.map(([text]) => text)];
  const types = [2, 3, 3, 4, ...bytes.map(() => 6), ...pieces.map(() => 1)];
  const scores = [0, 0, 0, 0, ...bytes.map(() => 0), ...pieces.map(([, score]) => score)];
  return aGguf([
    ["tokenizer.ggml.model", "llama"],
    ["tokenizer.ggml.tokens", tokens],
    ["tokenizer.ggml.token_type", Int32Array.from(types)],
    ["tokenizer.ggml.scores", Float32Array.from(scores)],
    ["tokenizer.ggml.bos_token_id", 1],
    ["tokenizer.ggml.unknown_token_id", 0],
    ...edits,
  ]);
}
