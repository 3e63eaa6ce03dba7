import type { FastifyInstance } from "fastify";
import { EngineError } from "../errors.ts";
import {
  deliveryFields,
  maxLogprobs,
  type SamplingFields,
  samplingFields,
} from "../sampling/request-fields.ts";
import { requireKnownToken, samplingParams } from "../sampling/sampling-params.ts";
import { refuseUnsupportedFields } from "../sampling/unsupported-fields.ts";
import { answer, type DeliveryFields, requireStreamOptions } from "./answer.ts";
import { admit, modelOf, type RouteContext } from "./context.ts";
import { requestBody } from "./request-body.ts";
import type { Text } from "./text-port.ts";

interface CompletionBody extends SamplingFields, DeliveryFields {
  readonly model?: string | null;
  readonly prompt: string | readonly unknown[];
  readonly echo?: boolean | null;
  readonly logprobs?: number | null;
  readonly add_special_tokens?: boolean | null;
}

/** OpenAI's default for this endpoint. */
const defaultMaxTokens = 16;

const body = requestBody(["prompt"], {
  model: { type: ["string", "null"], description: "A served name; left out, the first." },
  prompt: {
    type: ["string", "array"],
    description: "A text, token ids, or an array of either for several prompts.",
  },
  echo: { type: ["boolean", "null"], description: "Begin each choice with its prompt." },
  logprobs: {
    type: ["integer", "null"],
    description: "Log-probabilities of each token and of this many alternatives.",
    minimum: 0,
    maximum: maxLogprobs,
  },
  add_special_tokens: {
    type: ["boolean", "null"],
    description: "Put the tokenizer's own tokens, such as BOS, around text prompts. Default true.",
  },
  ...samplingFields,
  ...deliveryFields,
});

/** POST /v1/completions. */
export async function completionRoutes(app: FastifyInstance, context: RouteContext): Promise<void> {
  app.post<{ Body: CompletionBody }>(
    "/v1/completions",
    { schema: { summary: "Continue a text.", body } },
    async (request, reply) => {
      const admitted = admit(context, reply);
      const { body: fields } = request;
      const { serving } = admitted;
      const model = modelOf(serving, fields.model);
      refuseUnsupportedFields(fields as unknown as Record<string, unknown>);
      requireStreamOptions(fields);
      const wantsLogprobs = typeof fields.logprobs === "number";
      if (fields.echo === true && wantsLogprobs) throw echoWithLogprobs();
      const params = samplingParams(fields, fields.logprobs ?? -1, {
        vocabularySize: serving.text.vocabularySize,
        endTokenIds: serving.text.endTokenIds,
        defaults: serving.text.samplingDefaults,
        defaultMaxTokens,
      });
      const prompts = await encodePrompts(fields, serving.text, context.limits.maxChoices);
      return await answer(context, admitted, reply, {
        kind: "completion",
        model,
        prompts,
        params,
        logprobs: wantsLogprobs,
        delivery: fields,
        echoOf: (choice) =>
          fields.echo === true ? serving.text.decode(choice.promptTokenIds) : "",
        choiceBody: (collected) => ({
          text: collected.text,
          logprobs: wantsLogprobs ? collected.completionLogprobs : null,
        }),
      });
    },
  );
}

function echoWithLogprobs(): EngineError {
  return new EngineError("UNSUPPORTED_FIELD", "echo together with logprobs is not supported", {
    remedy: "Leave one of them out: log-probabilities of prompt tokens are not computed.",
    param: "echo",
  });
}

async function encodePrompts(
  { prompt, add_special_tokens }: CompletionBody,
  text: Text,
  maxPrompts: number,
): Promise<Int32Array[]> {
  const addSpecial = add_special_tokens !== false;
  const isTokenIds = Array.isArray(prompt) && typeof prompt[0] === "number";
  const prompts = Array.isArray(prompt) && !isTokenIds ? prompt : [prompt];
  if (prompts.length === 0 || prompts.length > maxPrompts) {
    throw invalidPrompt(`prompt has ${prompts.length} prompts; it must have 1 to ${maxPrompts}`);
  }
  const encoded: Int32Array[] = [];
  for (const item of prompts) {
    encoded.push(
      typeof item === "string" ? await text.encode(item, addSpecial) : tokenIdsOf(item, text),
    );
  }
  return encoded;
}

function tokenIdsOf(item: unknown, { vocabularySize }: Text): Int32Array {
  if (!Array.isArray(item)) {
    throw invalidPrompt("prompt must be a text, token ids, or an array of either");
  }
  for (const id of item) {
    if (typeof id !== "number") throw invalidPrompt("prompt mixes token ids with other values");
    requireKnownToken("prompt", id, vocabularySize);
  }
  return Int32Array.from(item);
}

function invalidPrompt(message: string): EngineError {
  return new EngineError("REQUEST_INVALID", message, {
    remedy: "Send one prompt, or an array of texts or of token id arrays.",
    param: "prompt",
  });
}
