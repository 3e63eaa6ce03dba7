import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { aServer } from "./test-server.ts";

const seed = 20_250_101;
const paths = ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"];

describe("a thousand random bad bodies", () => {
  it(`crash nothing and get no 5xx (seed ${seed})`, async () => {
    const { app, engine } = await aServer({ limits: { maxChoices: 4 } });
    const random = mulberry32(seed);
    const statuses = new Map<number, number>();
    for (let round = 0; round < 1000; round++) {
      const url = pick(random, paths);
      const payload = mutated(random, badBody(random));
      const answer = await app.inject({
        method: "POST",
        url,
        headers: { "content-type": "application/json" },
        payload,
      });
      assert.ok(answer.statusCode < 500, `round ${round}: ${url} ${payload} → ${answer.body}`);
      if (answer.statusCode >= 400) {
        assert.equal(typeof JSON.parse(answer.body).error.message, "string", `round ${round}`);
      }
      statuses.set(answer.statusCode, (statuses.get(answer.statusCode) ?? 0) + 1);
      if (round % 10 === 9) {
        const good = await app.inject({
          method: "POST",
          url: "/v1/completions",
          payload: { prompt: "ab" },
        });
        assert.equal(good.json().choices[0].text, "ab", `after round ${round}`);
      }
    }
    assert.ok((statuses.get(400) ?? 0) > 500, JSON.stringify([...statuses]));
    assert.ok(engine.generations.every(({ isOpen }) => !isOpen));
  });
});

const fields = [
  ...[
    "model",
    "prompt",
    "messages",
    "tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "n",
    "seed",
  ],
  ...[
    "max_tokens",
    "min_tokens",
    "stop",
    "stop_token_ids",
    "logit_bias",
    "logprobs",
    "top_logprobs",
  ],
  ...["stream", "stream_options", "echo", "tools", "response_format", "chat_template_kwargs"],
  ...["cache_salt", "priority", "unknown", "user", "metadata", "__proto__", "toString", ""],
];

/** JSON text, so that it can hold what `JSON.stringify` cannot write. */
function badBody(random: () => number): string {
  const members = Array.from({ length: 1 + Math.floor(random() * 5) }, () => {
    return `${JSON.stringify(pick(random, fields))}:${value(random, 0)}`;
  });
  const base = pick(random, [
    '"prompt":"a"',
    '"messages":[{"role":"user","content":"a"}]',
    '"tokens":[1]',
  ]);
  return random() < 0.9 ? `{${[base, ...members].join(",")}}` : value(random, 0);
}

function value(random: () => number, depth: number): string {
  const simple = [
    ...["null", "true", "-1", "0", "1.5", "1e999", "-1e999", "1e308", "9007199254740993", "NaN"],
    ...['""', '"a"', '"\\ud800"', '"\\u0000"', '"🙂"', '"<|end|>"', "[]", "{}", "[[]]", '[""]'],
    JSON.stringify("x".repeat(Math.floor(random() * 3000))),
    `${"[".repeat(40)}${"]".repeat(40)}`,
    `[${Array(Math.floor(random() * 50))
      .fill("7")
      .join(",")}]`,
  ];
  if (depth > 3 || random() < 0.6) return pick(random, simple);
  const inner = Array.from({ length: Math.floor(random() * 4) }, () => value(random, depth + 1));
  if (random() < 0.5) return `[${inner.join(",")}]`;
  return `{${inner.map((item) => `${JSON.stringify(pick(random, ["role", "content", "type", "0", "include_usage"]))}:${item}`).join(",")}}`;
}

/** Breaks the text itself now and then. */
function mutated(random: () => number, text: string): string {
  if (random() > 0.2 || text.length === 0) return text;
  const at = Math.floor(random() * text.length);
  const cut = text.slice(at + Math.floor(random() * 3));
  return text.slice(0, at) + pick(random, ["", "}", '"', "\\", "\u0000", "\uffff"]) + cut;
}

function pick<Item>(random: () => number, items: readonly Item[]): Item {
  return items[Math.floor(random() * items.length)] as Item;
}

/** Tommy Ettinger's mulberry32: 32 bits of state, enough for choosing test inputs. */
function mulberry32(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
