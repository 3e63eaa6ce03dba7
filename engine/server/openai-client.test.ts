import assert from "node:assert/strict";
import type { AddressInfo } from "node:net";
import { describe, it, type TestContext } from "node:test";
import OpenAI, { APIError, AuthenticationError, NotFoundError, RateLimitError } from "openai";
import { EngineError } from "../errors.ts";
import { aServer, until } from "./test-server.ts";

const messages = [{ role: "user" as const, content: "hello" }];

describe("the official OpenAI client", () => {
  it("lists and retrieves models", async (t) => {
    const { client } = await connected(t);

    const names: string[] = [];
    for await (const model of client.models.list()) names.push(model.id);

    assert.deepEqual(names, ["echo", "org/echo"]);
    assert.equal((await client.models.retrieve("org/echo")).id, "org/echo");
    await assert.rejects(client.models.retrieve("other"), NotFoundError);
  });

  it("completes a chat with every option it knows", async (t) => {
    const { client, server } = await connected(t);

    const completion = await client.chat.completions.create({
      model: "echo",
      messages: [
        { role: "system", content: "be brief" },
        { role: "developer", content: "be kind" },
        { role: "user", content: [{ type: "text", text: "hello" }] },
        { role: "assistant", content: "hi" },
        { role: "user", content: "again", name: "ann" },
      ],
      n: 2,
      max_completion_tokens: 40,
      temperature: 0.7,
      top_p: 0.9,
      presence_penalty: 0.1,
      frequency_penalty: 0.2,
      logit_bias: { 65: -100 },
      logprobs: true,
      top_logprobs: 3,
      seed: 1,
      stop: ["never there"],
      user: "ann",
      store: false,
      metadata: { a: "b" },
      response_format: { type: "text" },
      tool_choice: "none",
      parallel_tool_calls: true,
      service_tier: "auto",
    });

    assert.equal(completion.choices.length, 2);
    assert.equal(completion.choices[1]?.index, 1);
    assert.equal(completion.choices[0]?.finish_reason, "length");
    assert.equal(completion.choices[0]?.logprobs?.content?.length, 40);
    assert.equal(completion.choices[0]?.logprobs?.content?.[0]?.top_logprobs.length, 3);
    assert.equal(completion.usage?.completion_tokens, 80);
    assert.equal(completion.usage?.prompt_tokens_details?.cached_tokens, 16);
    assert.deepEqual([...(server.engine.requests[0]?.sampling.biasTokenIds ?? [])], [65]);
  });

  it("streams a chat to the same text, with usage", async (t) => {
    const { client } = await connected(t);
    const body = { model: "echo", messages, n: 2, seed: 3 };

    const plain = await client.chat.completions.create(body);
    const texts = ["", ""];
    const roles: string[] = [];
    let usage: OpenAI.CompletionUsage | undefined;
    const stream = await client.chat.completions.create({
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      for (const { index, delta } of chunk.choices) {
        if (delta.role !== undefined) roles.push(delta.role);
        texts[index] += delta.content ?? "";
      }
      usage = chunk.usage ?? usage;
    }

    assert.deepEqual(
      texts,
      plain.choices.map(({ message }) => message.content),
    );
    assert.deepEqual(roles, ["assistant", "assistant"]);
    assert.deepEqual(usage, plain.usage);
  });

  it("assembles a streamed chat with its own helper", async (t) => {
    const { client } = await connected(t);

    const runner = client.chat.completions.stream({ model: "echo", messages, stop: "lo" });

    assert.equal(await runner.finalContent(), "user: hel");
    assert.equal((await runner.finalChatCompletion()).choices[0]?.finish_reason, "stop");
  });

  it("completes texts, streamed and not", async (t) => {
    const { client } = await connected(t);
    const body = {
      model: "echo",
      prompt: ["one", "two"],
      n: 2,
      max_tokens: 9,
      echo: true,
      logprobs: null,
    };

    const plain = await client.completions.create(body);
    const texts = ["", "", "", ""];
    for await (const chunk of await client.completions.create({ ...body, stream: true })) {
      for (const { index, text } of chunk.choices) texts[index] += text;
    }

    assert.deepEqual(
      plain.choices.map(({ text }) => text),
      ["oneone", "oneone", "twotwo", "twotwo"],
    );
    assert.deepEqual(
      texts,
      plain.choices.map(({ text }) => text),
    );
    assert.equal(plain.usage?.prompt_tokens, 6);
  });

  it("raises its own errors with our message, code and field", async (t) => {
    const { client, server } = await connected(t);
    const create = (extra: object) =>
      client.chat.completions.create({ model: "echo", messages, ...extra });

    await assert.rejects(create({ temperature: 3 }), (error: unknown) => {
      assert.ok(error instanceof APIError);
      assert.deepEqual(
        [error.status, error.code, error.param],
        [400, "request_invalid", "temperature"],
      );
      assert.match(error.message, /temperature is 3; it must be at most 2/);
      return true;
    });
    await assert.rejects(create({ tools: [{ type: "function", function: { name: "f" } }] }), {
      code: "unsupported_field",
      param: "tools",
    });
    await assert.rejects(create({ model: "gpt-4" }), NotFoundError);
    server.engine.limit = 0;
    await assert.rejects(create({}), RateLimitError);
  });

  it("waits as long as Retry-After says and tries again", async (t) => {
    const { client, server } = await connected(t, { maxRetries: 1 });
    server.engine.limit = 0;
    server.engine.overrides = { waitingPromptTokens: 1 };
    const answer = client.chat.completions.create({ model: "echo", messages });

    setTimeout(() => {
      server.engine.limit = 1;
    }, 100);

    assert.equal((await answer).choices[0]?.finish_reason, "stop");
  });

  it("raises what fails in the middle of a stream", async (t) => {
    const { client, server } = await connected(t);
    server.engine.breakAt = { update: 2, reason: "error" };
    const stream = await client.chat.completions.create({ model: "echo", messages, stream: true });

    await assert.rejects(async () => {
      for await (const _ of stream);
    }, APIError);
  });

  it("aborts the request when it stops reading a stream", async (t) => {
    const { client, server } = await connected(t);
    server.engine.updatesBeforeHold = 3;
    const stream = await client.chat.completions.create({ model: "echo", messages, stream: true });

    for await (const _ of stream) break;

    await until(() => server.engine.generations[0]?.wasAborted === true, "the abort");
  });

  it("is refused without a known key", async (t) => {
    const { client } = await connected(t, { apiKey: "wrong" });

    await assert.rejects(client.models.list(), AuthenticationError);
  });
});

async function connected(t: TestContext, options: { apiKey?: string; maxRetries?: number } = {}) {
  const keys = { check, close: () => {} };
  const server = await aServer({ apiKeys: keys });
  await server.app.listen({ port: 0, host: "127.0.0.1" });
  t.after(async () => {
    server.app.server.closeAllConnections();
    await server.app.close();
  });
  const { port } = server.app.server.address() as AddressInfo;
  const client = new OpenAI({
    apiKey: "right",
    maxRetries: 0,
    baseURL: `http://127.0.0.1:${port}/v1`,
    ...options,
  });
  return { client, server };
}

function check(authorization: string | undefined): void {
  if (authorization === "Bearer right") return;
  throw new EngineError("UNAUTHORIZED", "The API key is not known here", { remedy: "Use right." });
}
