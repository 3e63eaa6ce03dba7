import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { EngineError } from "../errors.ts";
import { aServer, type TestServer } from "./test-server.ts";

describe("buildApp", () => {
  it("lists the served names and describes each, also those with slashes", async () => {
    const { app } = await aServer();

    const list = (await app.inject("/v1/models")).json();
    const plain = (await app.inject("/v1/models/org/echo")).json();
    const encoded = (await app.inject("/v1/models/org%2Fecho")).json();

    assert.deepEqual(
      list.data.map(({ id }: { id: string }) => id),
      ["echo", "org/echo"],
    );
    assert.equal(plain.id, "org/echo");
    assert.equal(plain.max_model_len, 1000);
    assert.deepEqual(plain, encoded);
  });

  it("names the served models when another is asked for", async () => {
    const server = await aServer();

    const asked = [
      await server.app.inject("/v1/models/gpt-4"),
      await post(server, "/v1/completions", { model: "gpt-4", prompt: "a" }),
      await post(server, "/tokenize", { model: "gpt-4", prompt: "a" }),
    ];

    for (const answer of asked) {
      assert.equal(answer.statusCode, 404);
      assert.deepEqual(answer.json().error, {
        message: 'The model "gpt-4" is not served here. Use echo or org/echo.',
        type: "invalid_request_error",
        param: "model",
        code: "model_not_found",
      });
    }
  });

  it("says both numbers when the context overflows", async () => {
    const server = await aServer();

    const answer = await post(server, "/v1/completions", { prompt: "abcd", max_tokens: 997 });

    assert.equal(answer.statusCode, 400);
    assert.equal(answer.json().error.code, "context_length_exceeded");
    assert.match(
      answer.json().error.message,
      /maximum context length is 1000 tokens, the request needs 1001: 4 of prompt and 997 to/,
    );
    assert.equal(
      (await post(server, "/v1/completions", { prompt: "abcd", max_tokens: 996 })).statusCode,
      200,
    );
  });

  it("refuses a prompt that leaves no room for a token", async () => {
    const server = await aServer();
    const messages = [{ role: "user", content: "x".repeat(1000) }];

    const answer = await post(server, "/v1/chat/completions", { messages });

    assert.equal(answer.json().error.code, "context_length_exceeded");
  });

  it("shows the rendered prompt and tokens of a text or a conversation", async () => {
    const server = await aServer();

    const text = await post(server, "/tokenize", { prompt: "ab" });
    const chat = await post(server, "/tokenize", { messages: [{ role: "user", content: "a" }] });
    const both = await post(server, "/tokenize", { prompt: "a", messages: [{ role: "user" }] });
    const none = await post(server, "/tokenize", {});

    assert.deepEqual(text.json(), {
      prompt: "ab",
      tokens: [97, 98],
      count: 2,
      max_model_len: 1000,
    });
    assert.equal(chat.json().prompt, "<|turn|>user: a\n<|turn|>");
    assert.equal(chat.json().tokens[0], 257);
    assert.deepEqual([both.statusCode, none.statusCode], [400, 400]);
  });

  it("turns tokens into text", async () => {
    const server = await aServer();

    const answer = await post(server, "/detokenize", { tokens: [104, 105] });
    const unknown = await post(server, "/detokenize", { tokens: [258] });

    assert.deepEqual(answer.json(), { prompt: "hi" });
    assert.match(unknown.json().error.message, /token 258, the vocabulary has 258 tokens/);
  });

  it("answers version and description", async () => {
    const { app } = await aServer();

    assert.deepEqual((await app.inject("/version")).json(), { version: "1.2.3" });
    const { paths } = (await app.inject("/openapi.json")).json();
    const { schema } = paths["/v1/chat/completions"].post.requestBody.content["application/json"];
    assert.equal(schema.properties.temperature.maximum, 2);
    assert.ok(paths["/v1/completions"] && paths["/health/ready"] && paths["/metrics"]);
    assert.deepEqual(Object.keys(paths["/v1/completions"]), ["post"]);
  });

  it("keeps a caller's request id, and replaces one that is no plain word", async () => {
    const { app } = await aServer();
    const idOf = async (id: string) =>
      (await app.inject({ url: "/version", headers: { "x-request-id": id } })).headers[
        "x-request-id"
      ];

    assert.equal(await idOf("abc-1.2:3"), "abc-1.2:3");
    assert.match(String(await idOf("a b")), /^[0-9a-f-]{36}$/);
    assert.match(String(await idOf("x".repeat(129))), /^[0-9a-f-]{36}$/);
  });
});

describe("refusals", () => {
  const badBodies: readonly [string, string | object, number, string | null][] = [
    ["malformed JSON", '{"prompt": ', 400, null],
    ["an empty body", "", 400, null],
    ["NaN", '{"prompt":"a","temperature":NaN}', 400, null],
    ["a number beyond doubles", '{"prompt":"a","temperature":1e999}', 400, "temperature"],
    ["a huge number", '{"prompt":"a","max_tokens":1e300}', 400, "max_tokens"],
    ["a fraction for an integer", { prompt: "a", max_tokens: 1.5 }, 400, "max_tokens"],
    ["a seed beyond safe integers", '{"prompt":"a","seed":9007199254740993}', 400, "seed"],
    ["a text for a number", { prompt: "a", temperature: "hot" }, 400, "temperature"],
    ["a number for a text", { prompt: 3 }, 400, "prompt"],
    ["a number too high", { prompt: "a", temperature: 2.1 }, 400, "temperature"],
    ["a number too low", { prompt: "a", top_p: 0 }, 400, "top_p"],
    ["a lone surrogate", '{"prompt":"a\\ud800"}', 400, null],
    ["a lone surrogate in a key", '{"prompt":"a","metadata":{"\\udc00":1}}', 400, null],
    ["deep nesting", `{"prompt":"a","metadata":${"[".repeat(2000)}${"]".repeat(2000)}}`, 400, null],
    ["__proto__", '{"prompt":"a","__proto__":{"x":1}}', 400, null],
    ["constructor.prototype", '{"prompt":"a","constructor":{"prototype":{"x":1}}}', 400, null],
    ["an unknown field", { prompt: "a", temprature: 1 }, 400, "temprature"],
    ["tools", { prompt: "a", tools: [{}] }, 400, "tools"],
    ["an array body", "[]", 400, null],
    ["a null body", "null", 400, null],
    ["no prompt", {}, 400, "prompt"],
    ["an empty prompt", { prompt: "" }, 400, "prompt"],
    ["no prompts", { prompt: [] }, 400, "prompt"],
    ["mixed tokens", { prompt: [1, "a"] }, 400, "prompt"],
    ["an unknown token", { prompt: [1, 258] }, 400, "prompt"],
    ["a fractional token", { prompt: [1.5] }, 400, "prompt"],
    ["too many prompts", { prompt: Array(9).fill("a") }, 400, "prompt"],
    ["too many choices", { prompt: ["a", "b", "c"], n: 3 }, 400, "n"],
    ["an empty stop", { prompt: "a", stop: "" }, 400, "stop"],
    ["too many stops", { prompt: "a", stop: Array(17).fill("x") }, 400, "stop"],
    ["too many logprobs", { prompt: "a", logprobs: 21 }, 400, "logprobs"],
    ["echo with logprobs", { prompt: "a", logprobs: 1, echo: true }, 400, "echo"],
    ["best_of", { prompt: "a", best_of: 2 }, 400, "best_of"],
    ["a suffix", { prompt: "a", suffix: "b" }, 400, "suffix"],
    ["a body over the limit", { prompt: "a".repeat(100_001) }, 413, null],
  ];
  for (const [name, payload, status, param] of badBodies) {
    it(`answers ${status} to ${name}`, async () => {
      const { app } = await aServer();

      const answer = await app.inject({
        method: "POST",
        url: "/v1/completions",
        headers: { "content-type": "application/json" },
        payload,
      });

      assert.equal(answer.statusCode, status, answer.body);
      assertIsErrorBody(answer.json());
      assert.equal(answer.json().error.param, param);
    });
  }

  it("names field, value and limit", async () => {
    const server = await aServer();

    const answer = await post(server, "/v1/completions", { prompt: "a", temperature: 2.5 });

    assert.match(answer.json().error.message, /^temperature is 2.5; it must be at most 2\. /);
  });

  it("accepts the fields that are documented as without effect", async () => {
    const server = await aServer();
    const ignored = { user: "u", metadata: { a: "b" }, store: true, service_tier: "auto" };

    assert.equal(
      (await post(server, "/v1/completions", { prompt: "a", ...ignored })).statusCode,
      200,
    );
  });

  it("answers 404 to unknown paths and 405 with Allow to other methods", async () => {
    const { app } = await aServer();

    const missing = await app.inject("/v1/nothing");
    const method = await app.inject("/v1/chat/completions");
    const wildcard = await app.inject({ method: "DELETE", url: "/v1/models/echo" });

    assert.equal(missing.statusCode, 404);
    assertIsErrorBody(missing.json());
    assert.equal(method.statusCode, 405);
    assert.equal(method.headers["allow"], "POST");
    assert.equal(method.json().error.code, "method_not_allowed");
    assert.equal(wildcard.statusCode, 405);
    assert.equal(wildcard.headers["allow"], "GET, HEAD");
  });

  it("answers 415 to what is not JSON", async () => {
    const { app } = await aServer();
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/xml"]) {
      const answer = await app.inject({
        method: "POST",
        url: "/v1/completions",
        headers: { "content-type": type },
        payload: "prompt=a",
      });

      assert.equal(answer.statusCode, 415);
      assert.equal(answer.json().error.code, "unsupported_media_type");
    }
  });

  it("answers 400 to a broken URL", async () => {
    const { app } = await aServer();

    const answer = await app.inject("/v1/models/%zz");

    assert.equal(answer.statusCode, 400);
    assertIsErrorBody(answer.json());
  });

  it("tells nothing of the cause in a 500", async () => {
    const server = await aServer();
    server.engine.generate = () => {
      throw new EngineError("DEVICE_FAILED", "secret detail", { remedy: "secret remedy" });
    };

    const answer = await post(server, "/v1/completions", { prompt: "a" });

    assert.equal(answer.statusCode, 500);
    assert.ok(!answer.body.includes("secret"));
  });
});

describe("draining", () => {
  it("refuses new requests and lets running ones finish", async () => {
    const server = await aServer();
    server.engine.updatesBeforeHold = 1;
    const running = post(server, "/v1/completions", { prompt: "ab" });
    while (server.engine.generations.length === 0) await new Promise(setImmediate);

    server.lifecycle.beginDrain();
    const refused = await post(server, "/v1/completions", { prompt: "ab" });
    const ready = await server.app.inject("/health/ready");
    const drained = server.lifecycle.drained(5000);
    server.engine.generations[0]?.release();

    assert.equal(refused.statusCode, 503);
    assert.equal(refused.json().error.code, "draining");
    assert.ok(Number(refused.headers["retry-after"]) >= 1);
    assert.equal(refused.headers["connection"], "close");
    assert.equal(ready.statusCode, 503);
    assert.equal(ready.json().status, "draining");
    assert.equal((await running).json().choices[0].text, "ab");
    assert.equal(await drained, true);
    assert.equal(server.lifecycle.inFlightCount, 0);
  });

  it("aborts what is left when the time is over", async () => {
    const server = await aServer();
    server.engine.updatesBeforeHold = 1;
    const running = post(server, "/v1/completions", { prompt: "ab" });
    while (server.engine.generations.length === 0) await new Promise(setImmediate);

    server.lifecycle.beginDrain();
    const drained = await server.lifecycle.drained(1);

    assert.equal(drained, false);
    assert.equal((await running).statusCode, 503);
    assert.equal((await running).json().error.code, "aborted");
  });
});

function assertIsErrorBody(body: { error?: Record<string, unknown> }): void {
  assert.deepEqual(Object.keys(body), ["error"]);
  assert.deepEqual(Object.keys(body.error ?? {}), ["message", "type", "param", "code"]);
  assert.equal(typeof body.error?.["message"], "string");
  assert.equal(typeof body.error?.["code"], "string");
}

function post({ app }: TestServer, url: string, payload: object) {
  return app.inject({ method: "POST", url, payload });
}
