import type { FastifyInstance } from "fastify";
import { EngineError } from "../errors.ts";
import type { JsonObject } from "../models/model-spec.ts";
import { requireKnownToken } from "../sampling/sampling-params.ts";
import { type ChatFields, chatFields, renderedChat } from "./chat-prompt.ts";
import { modelOf, type RouteContext } from "./context.ts";
import type { Text } from "./text-port.ts";

interface TokenizeBody extends Omit<ChatFields, "messages"> {
  readonly model?: string | null;
  readonly prompt?: string | null;
  readonly messages?: readonly JsonObject[] | null;
  readonly add_special_tokens?: boolean | null;
}

interface DetokenizeBody {
  readonly model?: string | null;
  readonly tokens: readonly number[];
}

const model = { type: ["string", "null"], description: "A served name; left out, the first." };

const tokenizeBody = {
  type: "object",
  additionalProperties: false,
  properties: {
    model,
    prompt: { type: ["string", "null"], description: "A text, as /v1/completions takes it." },
    ...chatFields,
    messages: { ...chatFields.messages, type: ["array", "null"] },
    add_special_tokens: {
      type: ["boolean", "null"],
      description: "Put the tokenizer's own tokens, such as BOS, around a prompt. Default true.",
    },
  },
};

const detokenizeBody = {
  type: "object",
  required: ["tokens"],
  additionalProperties: false,
  properties: { model, tokens: { type: "array", items: { type: "integer" } } },
};

/** POST /tokenize and /detokenize. */
export async function tokenizeRoutes(
  app: FastifyInstance,
  { lifecycle }: RouteContext,
): Promise<void> {
  app.post<{ Body: TokenizeBody }>(
    "/tokenize",
    { schema: { summary: "Show the prompt and tokens of a request.", body: tokenizeBody } },
    async ({ body }) => {
      const { text, engine } = modelServing(body.model);
      const { prompt, tokens } = await tokenized(text, body);
      return {
        prompt,
        tokens: [...tokens],
        count: tokens.length,
        max_model_len: engine.maxModelLen,
      };
    },
  );

  app.post<{ Body: DetokenizeBody }>(
    "/detokenize",
    { schema: { summary: "Turn tokens into text.", body: detokenizeBody } },
    async ({ body }) => {
      const { text } = modelServing(body.model);
      for (const id of body.tokens) requireKnownToken("tokens", id, text.vocabularySize);
      return { prompt: text.decode(Int32Array.from(body.tokens)) };
    },
  );

  function modelServing(name: string | null | undefined) {
    const serving = lifecycle.requireServing();
    modelOf(serving, name);
    return serving;
  }
}

async function tokenized(
  text: Text,
  body: TokenizeBody,
): Promise<{ prompt: string; tokens: Int32Array }> {
  const { prompt, messages } = body;
  if (typeof prompt === "string" && !messages) {
    return { prompt, tokens: await text.encode(prompt, body.add_special_tokens !== false) };
  }
  if (messages && typeof prompt !== "string") {
    const rendered = renderedChat(text, { ...body, messages });
    return { prompt: text.displayed(rendered), tokens: await text.encodeChat(rendered) };
  }
  throw new EngineError("REQUEST_INVALID", "Exactly one of prompt and messages is needed", {
    remedy: "Send a text as prompt, or a conversation as messages.",
    param: "prompt",
  });
}
