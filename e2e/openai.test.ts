import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import OpenAI from "openai";
import { Serving } from "./serving.ts";

describe("the official client on a real engine", () => {
  let serving: Serving;
  let client: OpenAI;

  before(async () => {
    serving = await Serving.start();
    client = new OpenAI({ baseURL: serving.url, apiKey: "none" });
  });

  after(() => serving[Symbol.asyncDispose]());

  it("streams the text that it answers whole", async () => {
    for (const sampling of [{ temperature: 0 }, { temperature: 1, seed: 7, top_p: 0.8 }]) {
      const body = { model: "tiny", prompt: "a b c", max_tokens: 40, ...sampling };

      const whole = await client.completions.create(body);
      let streamed = "";
      for await (const chunk of await client.completions.create({ ...body, stream: true })) {
        streamed += chunk.choices[0]?.text ?? "";
      }

      assert.equal(streamed, whole.choices[0]?.text);
    }
  });

  it("gives every choice what its own seed gives alone", async () => {
    const body = { model: "tiny", prompt: "x", max_tokens: 20, temperature: 1, seed: 3 };

    const both = await client.completions.create({ ...body, n: 3 });
    const first = await client.completions.create(body);

    assert.equal(both.choices.length, 3);
    assert.equal(both.choices[0]?.text, first.choices[0]?.text);
    assert.equal(new Set(both.choices.map((choice) => choice.text)).size, 3);
  });

  it("reports log-probabilities that add up, the drawn token first when greedy", async () => {
    const answer = await client.completions.create({
      model: "tiny",
      prompt: "a",
      max_tokens: 8,
      temperature: 0,
      logprobs: 5,
    });

    const { token_logprobs: drawn = [], top_logprobs: tops = [] } =
      answer.choices[0]?.logprobs ?? {};
    assert.equal(drawn?.length, answer.usage?.completion_tokens);
    for (const [index, top] of (tops ?? []).entries()) {
      const values = Object.values(top);
      assert.ok(Math.abs(Math.max(...values) - (drawn?.[index] ?? 0)) < 1e-6);
      assert.ok(values.reduce((sum, value) => sum + Math.exp(value), 0) <= 1 + 1e-6);
    }
  });

  it("answers a repeated prompt from its cache, with the same text", async () => {
    const prompt = Array.from({ length: 90 }, (_, i) => "abcdefgh"[i % 8]).join(" ");
    const body = { model: "tiny", prompt, max_tokens: 10, temperature: 0 };

    const cold = await client.completions.create(body);
    const warm = await client.completions.create(body);

    assert.equal(cold.usage?.prompt_tokens_details?.cached_tokens, 0);
    assert.ok((warm.usage?.prompt_tokens_details?.cached_tokens ?? 0) >= 64);
    assert.equal(warm.choices[0]?.text, cold.choices[0]?.text);
  });

  it("bans by bias, stops at tokens and fills exactly when told to ignore the end", async () => {
    const greedy = { model: "tiny", prompt: "a", temperature: 0 };
    const ask = (more: object) =>
      client.completions.create({ ...greedy, max_tokens: 30, ...more } as never);
    const ids = async (more: object) => {
      const answer = (await ask({
        return_token_ids: true,
        ignore_eos: true,
        ...more,
      })) as unknown as {
        choices: { token_ids: number[]; finish_reason: string; stop_reason: unknown }[];
      };
      const [choice] = answer.choices;
      assert.ok(choice);
      return choice;
    };

    const free = await ids({});
    const [first = 0, second = 0] = free.token_ids;
    const banned = await ids({ logit_bias: { [first]: -100 } });
    const stopped = await ids({ stop_token_ids: [second] });

    assert.equal(free.token_ids.length, 30);
    assert.ok(!banned.token_ids.includes(first));
    assert.equal(stopped.finish_reason, "stop");
    assert.equal(stopped.stop_reason, second);
  });

  it("counts tokens as it tokenizes them", async () => {
    const prompt = "hello there";
    const tokenized = await serving.post("/tokenize", { model: "tiny", prompt });
    const { tokens, count } = (await tokenized.json()) as { tokens: number[]; count: number };
    const detokenized = await serving.post("/detokenize", { model: "tiny", tokens });

    const answer = await client.completions.create({ model: "tiny", prompt, max_tokens: 1 });

    assert.equal(tokens.length, count);
    assert.equal(((await detokenized.json()) as { prompt: string }).prompt, prompt);
    assert.equal(answer.usage?.prompt_tokens, count);
  });

  it("says which lengths do not fit, with both numbers", async () => {
    await assert.rejects(
      client.completions.create({ model: "tiny", prompt: "a", max_tokens: 5_000 }),
      (error: unknown) =>
        error instanceof OpenAI.BadRequestError &&
        /5000/.test(error.message) &&
        /256/.test(error.message),
    );
  });
});
