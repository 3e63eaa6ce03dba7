import assert from "node:assert/strict";
import { describe, it } from "node:test";

import fc from "fast-check";

import { Detokenizer } from "./detokenizer.ts";
import { TokenPieces } from "./token-pieces.ts";

const hex = (byte: number) => byte.toString(16).toUpperCase().padStart(2, "0");
/** Ids 0 to 255 are bytes, then a control token and three pieces. */
const control = 256;
const [hello, world, smile] = [257, 258, 259];
const pieces = new TokenPieces({
  added_tokens: [
    {
      id: control,
      content: "<end>",
      special: true,
      ...{ single_word: false, lstrip: false, rstrip: false, normalized: false },
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
      { type: "Strip", content: " ", start: 1, stop: 0 },
    ],
  },
  model: {
    vocab: {
      ...Object.fromEntries(Array.from({ length: 256 }, (_, byte) => [`<0x${hex(byte)}>`, byte])),
      "▁hello": hello,
      "▁world": world,
      "😀": smile,
    },
    merges: [],
  },
});

describe("Detokenizer", () => {
  it("gives out a character only when all its bytes are there", () => {
    const detokenizer = aDetokenizer();

    assert.deepEqual(
      [0xf0, 0x9f, 0x98, 0x80, 0x21].map((byte) => detokenizer.push(byte)),
      ["", "", "", "😀", "!"],
    );
    assert.equal(detokenizer.flush(), "");
  });

  it("replaces a character that a whole piece cuts off", () => {
    const detokenizer = aDetokenizer();

    assert.equal(detokenizer.push(0xf0), "");
    assert.equal(detokenizer.push(smile), "\ufffd😀");
  });

  it("replaces what is unfinished at the end, once", () => {
    const detokenizer = aDetokenizer();
    detokenizer.push(0xe2);

    assert.equal(detokenizer.flush(), "\ufffd");
    assert.equal(detokenizer.flush(), "");
  });

  it("keeps a byte order mark", () => {
    const detokenizer = aDetokenizer();

    assert.equal([0xef, 0xbb, 0xbf].map((byte) => detokenizer.push(byte)).join(""), "\ufeff");
  });

  it("leaves control tokens out, or writes them", () => {
    assert.equal(aDetokenizer().push(control), "");
    assert.equal(aDetokenizer({ keepSpecial: true }).push(control), "<end>");
  });

  it("says nothing for ids beyond the vocabulary", () => {
    assert.equal(aDetokenizer().push(5000), "");
  });

  it("drops one space at the very beginning, only where asked", () => {
    const stripping = aDetokenizer({ stripLeadingSpace: true });

    assert.equal(stripping.push(hello), "hello");
    assert.equal(stripping.push(world), " world");
    assert.equal(aDetokenizer().push(hello), " hello");
  });

  it("gives the text of any bytes and pieces as one decoding of all bytes would", () => {
    const token = fc.oneof(
      fc.integer({ min: 0, max: 255 }),
      fc.integer({ min: 0xc0, max: 0xf4 }),
      fc.constantFrom(hello, smile),
    );
    fc.assert(
      fc.property(fc.array(token), (ids) => {
        const detokenizer = aDetokenizer();
        const text = ids.map((id) => detokenizer.push(id)).join("") + detokenizer.flush();

        const bytes = Buffer.concat(ids.map((id) => Buffer.from(pieces.piece(id))));
        assert.equal(text, new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
      }),
    );
  });
});

function aDetokenizer(options: { keepSpecial?: boolean; stripLeadingSpace?: boolean } = {}) {
  return new Detokenizer(pieces, { keepSpecial: false, stripLeadingSpace: false, ...options });
}
