import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { aServer, type TestServer, until } from "./test-server.ts";

describe("POST /v1/completions", () => {
  it("answers in OpenAI's shape", async () => {
    const server = await aServer();

    const answer = await post(server, { model: "echo", prompt: "hello", max_tokens: 20 });

    const { id, created, ...rest } = answer.json();
    assert.match(id, /^cmpl-[0-9a-f]{32}$/);
    assert.ok(Math.abs(created - Date.now() / 1000) < 5);
    assert.deepEqual(rest, {
      object: "text_completion",
      model: "echo",
      choices: [
        { index: 0, text: "hello", logprobs: null, finish_reason: "stop", stop_reason: null },
      ],
      usage: {
        prompt_tokens: 5,
        completion_tokens: 6,
        total_tokens: 11,
        prompt_tokens_details: { cached_tokens: 0 },
      },
    });
  });

  it("generates 16 tokens by default", async () => {
    const server = await aServer();

    const answer = await post(server, { prompt: "a prompt of more than sixteen bytes" });

    assert.equal(answer.json().choices[0].text, "a prompt of more");
    assert.equal(answer.json().choices[0].finish_reason, "length");
    assert.equal(answer.json().usage.prompt_tokens_details.cached_tokens, 16);
  });

  it("takes texts, token ids, and arrays of both, with n choices for each", async () => {
    const server = await aServer();
    const texts = async (prompt: unknown, n = 1) =>
      (await post(server, { prompt, n })).json().choices.map((c: { text: string }) => c.text);

    assert.deepEqual(await texts("ab"), ["ab"]);
    assert.deepEqual(await texts(["ab", "cd"], 2), ["ab", "ab", "cd", "cd"]);
    const { choices } = (await post(server, { prompt: ["ab", "cd"], n: 2 })).json();
    assert.deepEqual(
      choices.map(({ index }: { index: number }) => index),
      [0, 1, 2, 3],
    );
    assert.deepEqual(await texts([97, 98]), ["ab"]);
    assert.deepEqual(await texts([[97], [98]]), ["a", "b"]);
    assert.deepEqual(await texts(["a", [98]]), ["a", "b"]);
  });

  it("counts a prompt once in usage, however many choices it has", async () => {
    const server = await aServer();

    const { usage } = (await post(server, { prompt: ["abc", "de"], n: 2 })).json();

    assert.equal(usage.prompt_tokens, 5);
    assert.equal(usage.completion_tokens, 2 * (4 + 3));
  });

  it("echoes the prompt before the output", async () => {
    const server = await aServer();

    const answer = await post(server, { prompt: "ab", echo: true });

    assert.equal(answer.json().choices[0].text, "abab");
  });

  it("reports logprobs with the number of alternatives asked for", async () => {
    const server = await aServer();

    const answer = await post(server, { prompt: "ab", logprobs: 2, max_tokens: 2 });

    assert.deepEqual(answer.json().choices[0].logprobs, {
      tokens: ["a", "b"],
      token_logprobs: [-0.5, -0.5],
      top_logprobs: [
        { a: -0.5, b: -9999 },
        { b: -0.5, c: -9999 },
      ],
      text_offset: [0, 1],
    });
  });

  it("cuts the output before a stop string, or after it on request", async () => {
    const server = await aServer();
    const body = { prompt: "one two three", stop: ["two"] };

    const cut = (await post(server, body)).json().choices[0];
    const kept = (await post(server, { ...body, include_stop_str_in_output: true })).json()
      .choices[0];

    assert.deepEqual([cut.text, cut.finish_reason, cut.stop_reason], ["one ", "stop", "two"]);
    assert.equal(kept.text, "one two");
    assert.ok(server.engine.generations[0]?.wasAborted);
  });

  it("frees a choice that met its stop string while others go on", async () => {
    const server = await aServer();
    server.engine.updatesBeforeHold = 4;

    const answer = post(server, { prompt: ["stop", "longer"], stop: "op" });
    await until(() => server.engine.generations[0]?.wasAborted === true, "the abort");

    assert.equal(server.engine.generations[1]?.isOpen, true);
    server.engine.generations[1]?.release();
    assert.deepEqual(
      (await answer).json().choices.map((choice: { text: string }) => choice.text),
      ["st", "longer"],
    );
  });

  it("finds a stop string that the end of an unfinished character completes", async () => {
    const server = await aServer();

    const answer = await post(server, { prompt: [97, 0xc3], max_tokens: 2, stop: "a\ufffd" });

    const { text, finish_reason, stop_reason } = answer.json().choices[0];
    assert.deepEqual([text, finish_reason, stop_reason], ["", "stop", "a\ufffd"]);
  });

  it("stops at a named token and says which", async () => {
    const server = await aServer();

    const choice = (await post(server, { prompt: "abc", stop_token_ids: [98] })).json().choices[0];

    assert.deepEqual([choice.text, choice.finish_reason, choice.stop_reason], ["a", "stop", 98]);
  });

  it("looks for stop strings only once min_tokens are there", async () => {
    const server = await aServer();
    const body = { prompt: "ababab", stop: "ab", max_tokens: 6 };

    assert.equal((await post(server, body)).json().choices[0].text, "");
    assert.equal((await post(server, { ...body, min_tokens: 3 })).json().choices[0].text, "ab");
  });

  it("gives out text held back for a stop string that does not come", async () => {
    const server = await aServer();

    const choice = (await post(server, { prompt: "xEN", stop: "END" })).json().choices[0];

    assert.deepEqual([choice.text, choice.stop_reason], ["xEN", null]);
  });

  it("passes sampling, priority and salt on, and a seed for each choice", async () => {
    const server = await aServer();

    await post(server, {
      prompt: "a",
      n: 2,
      seed: 5,
      temperature: 0.5,
      top_p: 0.9,
      top_k: 7,
      min_p: 0.1,
      repetition_penalty: 1.1,
      ignore_eos: true,
      max_tokens: 3,
      priority: -2,
      cache_salt: "tenant",
    });

    const [first, second] = server.engine.requests;
    assert.equal(first?.sampling.seed, 5n);
    assert.notEqual(second?.sampling.seed, 5n);
    assert.equal(first?.sampling.topK, 7);
    assert.equal(first?.priority, -2);
    assert.equal(first?.cacheSalt, "tenant");
    assert.equal(first?.maxTokens, 3);
    assert.equal(first?.stopTokenIds.length, 0);
  });

  it("returns token ids on request", async () => {
    const server = await aServer();

    const choice = (await post(server, { prompt: "ab", return_token_ids: true })).json().choices[0];

    assert.deepEqual(choice.token_ids, [97, 98, 256]);
    assert.deepEqual(choice.prompt_token_ids, [97, 98]);
  });

  it("aborts the other choices when one fails", async () => {
    const server = await aServer();
    server.engine.updatesBeforeHold = 1;
    server.engine.breakAt = { update: 2, reason: "error" };

    const answer = post(server, { prompt: ["abc", "def"] });
    await until(() => server.engine.generations.length === 2, "both choices");
    server.engine.generations[0]?.release();

    assert.equal((await answer).statusCode, 500);
    assert.ok(server.engine.generations[1]?.wasAborted);
  });

  it("admits all choices of a request or none", async () => {
    const server = await aServer();
    server.engine.limit = 1;

    const answer = await post(server, { prompt: "a", n: 2 });

    assert.equal(answer.statusCode, 429);
    assert.equal(answer.headers["retry-after"], "5");
    assert.equal(answer.json().error.code, "queue_full");
    assert.ok(server.engine.generations.every(({ isOpen }) => !isOpen));
  });
});

describe("POST /v1/completions with stream", () => {
  it("sends one event per token, the finish, and [DONE]", async () => {
    const server = await aServer();

    const answer = await post(server, { prompt: 'h"é', stream: true });

    const [, head] =
      /^data: (\{"id":"cmpl-[0-9a-f]{32}","object":"text_completion","created":\d+,"model":"echo","choices":\[)/.exec(
        answer.body,
      ) ?? [];
    assert.equal(answer.headers["content-type"], "text/event-stream; charset=utf-8");
    assert.equal(
      answer.body.replaceAll(head ?? "?", "HEAD"),
      [
        'data: HEAD{"index":0,"text":"h","logprobs":null,"finish_reason":null}]}',
        'data: HEAD{"index":0,"text":"\\"","logprobs":null,"finish_reason":null}]}',
        'data: HEAD{"index":0,"text":"é","logprobs":null,"finish_reason":null}]}',
        'data: HEAD{"index":0,"text":"","logprobs":null,"finish_reason":"stop","stop_reason":null}]}',
        "data: [DONE]",
        "",
      ].join("\n\n"),
    );
  });

  it("says the same as the plain answer, however tokens come together", async () => {
    for (const tokensPerUpdate of [1, 2, 5]) {
      for (const extra of [{}, { stop: "lo w" }, { echo: true }, { logprobs: 1 }, { n: 2 }]) {
        const server = await aServer();
        server.engine.tokensPerUpdate = tokensPerUpdate;
        const body = { prompt: "hello wörld", max_tokens: 30, ...extra };

        const plain = (await post(server, body)).json();
        const events = eventsOf((await post(server, { ...body, stream: true })).body);

        for (const choice of plain.choices) {
          const own = events.flatMap((e) => e.choices).filter((c) => c.index === choice.index);
          assert.equal(own.map((c) => c.text).join(""), choice.text);
          assert.equal(own.at(-1)?.finish_reason, choice.finish_reason);
          const tokens = own.flatMap((c) => c.logprobs?.tokens ?? []);
          assert.deepEqual(tokens, choice.logprobs?.tokens ?? []);
          const offsets = own.flatMap((c) => c.logprobs?.text_offset ?? []);
          assert.deepEqual(offsets, choice.logprobs?.text_offset ?? []);
        }
      }
    }
  });

  it("sends usage last, or on every chunk", async () => {
    const server = await aServer();
    const body = { prompt: "ab", stream: true };

    const last = eventsOf(
      (await post(server, { ...body, stream_options: { include_usage: true } })).body,
    );
    const every = eventsOf(
      (await post(server, { ...body, stream_options: { continuous_usage_stats: true } })).body,
    );

    assert.deepEqual(last.at(-1)?.choices, []);
    assert.equal(last.at(-1)?.usage?.completion_tokens, 3);
    assert.ok(last.slice(0, -1).every((event) => event.usage === null));
    assert.deepEqual(
      every.map((event) => event.usage?.completion_tokens),
      [1, 2, 3, 3],
    );
  });

  it("answers a failure before the first token with its status", async () => {
    const server = await aServer();
    server.engine.breakAt = { update: 0, reason: "error" };

    const answer = await post(server, { prompt: "ab", stream: true });

    assert.equal(answer.statusCode, 500);
    assert.deepEqual(answer.json().error, {
      message: "Internal error.",
      type: "server_error",
      param: null,
      code: "internal_error",
    });
  });

  it("sends a failure after the first token as an event", async () => {
    const server = await aServer();
    server.engine.breakAt = { update: 1, reason: "abort" };

    const answer = await post(server, { prompt: "ab", stream: true });

    const events = answer.body.trimEnd().split("\n\n");
    assert.equal(answer.statusCode, 200);
    assert.equal(events.at(-1), "data: [DONE]");
    assert.equal(JSON.parse(events.at(-2)?.slice(6) ?? "").error.code, "aborted");
  });
});

interface CompletionEvent {
  choices: {
    index: number;
    text: string;
    finish_reason: string | null;
    logprobs: { tokens: string[]; text_offset: number[] } | null;
  }[];
  usage?: { completion_tokens: number } | null;
}

function eventsOf(body: string): CompletionEvent[] {
  const frames = body.split("\n\n").filter((frame) => frame !== "" && frame !== "data: [DONE]");
  return frames.map((frame) => JSON.parse(frame.slice("data: ".length)));
}

function post({ app }: TestServer, body: object) {
  return app.inject({ method: "POST", url: "/v1/completions", payload: body });
}
