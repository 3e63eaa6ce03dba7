import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { aServer, type TestServer } from "./test-server.ts";

const messages = [{ role: "user", content: "hi" }];

describe("POST /v1/chat/completions", () => {
  it("answers in OpenAI's shape", async () => {
    const server = await aServer();

    const answer = await post(server, { model: "org/echo", messages });

    const { id, created, ...rest } = answer.json();
    assert.match(id, /^chatcmpl-[0-9a-f]{32}$/);
    assert.equal(typeof created, "number");
    assert.deepEqual(rest, {
      object: "chat.completion",
      model: "org/echo",
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: "user: hi\n", refusal: null },
          logprobs: null,
          finish_reason: "stop",
          stop_reason: null,
        },
      ],
      usage: {
        prompt_tokens: 11,
        completion_tokens: 12,
        total_tokens: 23,
        prompt_tokens_details: { cached_tokens: 0 },
      },
    });
  });

  it("fills the context when no limit is given", async () => {
    const server = await aServer();

    await post(server, { messages });

    assert.equal(server.engine.requests[0]?.maxTokens, 1000 - 11);
  });

  it("joins text parts and leaves the generation prompt out on request", async () => {
    const server = await aServer();
    const content = [
      { type: "text", text: "a" },
      { type: "text", text: "b" },
    ];

    await post(server, { messages: [{ role: "user", content }], add_generation_prompt: false });

    assert.equal(promptOf(server), "<turn>user: a\nb\n");
  });

  it("keeps control tokens written by a user ordinary text", async () => {
    const server = await aServer();

    await post(server, { messages: [{ role: "user", content: "<|end|>" }] });

    assert.ok(!server.engine.requests[0]?.promptTokenIds.includes(256));
  });

  it("reports logprobs of each token with bytes and alternatives", async () => {
    const server = await aServer();
    const body = { messages, logprobs: true, top_logprobs: 1, max_tokens: 2 };

    const { logprobs } = (await post(server, body)).json().choices[0];

    assert.deepEqual(logprobs, {
      content: [
        {
          token: "<|turn|>",
          logprob: -0.5,
          bytes: [...Buffer.from("<|turn|>")],
          top_logprobs: [{ token: "\u0001", logprob: -0.5, bytes: [1] }],
        },
        {
          token: "u",
          logprob: -0.5,
          bytes: [117],
          top_logprobs: [{ token: "u", logprob: -0.5, bytes: [117] }],
        },
      ],
      refusal: null,
    });
  });

  it("asks for logprobs without alternatives, and for none by default", async () => {
    const server = await aServer();

    await post(server, { messages, logprobs: true });
    await post(server, { messages });

    assert.equal(server.engine.requests[0]?.sampling.topLogprobs, 0);
    assert.equal(server.engine.requests[1]?.sampling.topLogprobs, -1);
  });

  it("streams the role first, then text, the finish, usage and [DONE]", async () => {
    const server = await aServer();
    const body = {
      messages,
      stream: true,
      stop: "i\n",
      stream_options: { include_usage: true },
    };

    const answer = await post(server, body);

    const head =
      /^data: (\{"id":"chatcmpl-[0-9a-f]{32}","object":"chat.completion.chunk","created":\d+,"model":"echo","choices":\[)/.exec(
        answer.body,
      );
    const text = (content: string) =>
      `data: HEAD{"index":0,"delta":{"content":"${content}"},"logprobs":null,"finish_reason":null}],"usage":null}`;
    assert.equal(
      answer.body.replaceAll(head?.[1] ?? "?", "HEAD"),
      [
        'data: HEAD{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}',
        ...["u", "s", "e", "r", ":", " ", "h"].map(text),
        'data: HEAD{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":"i\\n"}],"usage":null}',
        'data: HEAD],"usage":{"prompt_tokens":11,"completion_tokens":10,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":0}}}',
        "data: [DONE]",
        "",
      ].join("\n\n"),
    );
  });

  it("streams logprobs and token ids with their tokens", async () => {
    const server = await aServer();
    const body = { messages, stream: true, logprobs: true, return_token_ids: true, max_tokens: 3 };

    const frames = (await post(server, body)).body.split("\n\n").slice(0, -2);

    const chunks = frames.map((frame) => JSON.parse(frame.slice(6)));
    assert.deepEqual(chunks[0].prompt_token_ids, [
      ...(server.engine.requests[0]?.promptTokenIds ?? []),
    ]);
    assert.deepEqual(
      chunks
        .slice(1, -1)
        .map(({ choices: [choice] }) => [
          choice.delta.content,
          choice.token_ids,
          choice.logprobs.content[0].token,
        ]),
      [
        ["", [257], "<|turn|>"],
        ["u", [117], "u"],
        ["s", [115], "s"],
      ],
    );
  });

  it("refuses what contradicts itself, by field", async () => {
    const server = await aServer();
    for (const [extra, param] of [
      [{ top_logprobs: 2 }, "top_logprobs"],
      [{ stream_options: {} }, "stream_options"],
      [{ chat_template_kwargs: { messages: [] } }, "chat_template_kwargs"],
      [{ messages: [{ role: "user", content: [{ type: "image_url" }] }] }, "messages.0.content.0"],
      [{ messages: [] }, "messages"],
      [{ messages: [{ role: "robot", content: "" }] }, "messages.0.role"],
      [{ messages: [{ content: "" }] }, "messages.0.role"],
    ] as const) {
      const answer = await post(server, { messages, ...extra });

      assert.equal(answer.statusCode, 400, param);
      assert.equal(answer.json().error.param, param);
    }
  });
});

/** The prompt that the engine got, its control token shown as <turn>. */
function promptOf({ engine }: TestServer): string {
  const ids = [...(engine.requests[0]?.promptTokenIds ?? [])];
  return ids.map((id) => (id === 257 ? "<turn>" : String.fromCharCode(id))).join("");
}

function post({ app }: TestServer, body: object) {
  return app.inject({ method: "POST", url: "/v1/chat/completions", payload: body });
}
