import type { FastifyInstance } from "fastify";
import { EngineError } from "../errors.ts";
import type { JsonObject } from "../models/model-spec.ts";
import {
  deliveryFields,
  maxLogprobs,
  type SamplingFields,
  samplingFields,
} from "../sampling/request-fields.ts";
import { samplingParams } from "../sampling/sampling-params.ts";
import { refuseUnsupportedFields } from "../sampling/unsupported-fields.ts";
import { answer, type DeliveryFields, requireStreamOptions } from "./answer.ts";
import { type ChatFields, chatFields, renderedChat } from "./chat-prompt.ts";
import { admit, modelOf, type RouteContext } from "./context.ts";
import { requestBody } from "./request-body.ts";

interface ChatBody extends SamplingFields, DeliveryFields, ChatFields {
  readonly model?: string | null;
  readonly messages: readonly JsonObject[];
  readonly logprobs?: boolean | null;
  readonly top_logprobs?: number | null;
}

const body = requestBody(["messages"], {
  model: { type: ["string", "null"], description: "A served name; left out, the first." },
  ...chatFields,
  logprobs: { type: ["boolean", "null"], description: "Log-probabilities of each token." },
  top_logprobs: {
    type: ["integer", "null"],
    description: "Alternatives to report with each token. Only with logprobs.",
    minimum: 0,
    maximum: maxLogprobs,
  },
  ...samplingFields,
  ...deliveryFields,
});

/** POST /v1/chat/completions. */
export async function chatRoutes(app: FastifyInstance, context: RouteContext): Promise<void> {
  app.post<{ Body: ChatBody }>(
    "/v1/chat/completions",
    { schema: { summary: "Answer a conversation.", body } },
    async (request, reply) => {
      const admitted = admit(context, reply);
      const { body: fields } = request;
      const { serving } = admitted;
      const model = modelOf(serving, fields.model);
      refuseUnsupportedFields(fields as unknown as Record<string, unknown>);
      requireStreamOptions(fields);
      const params = samplingParams(fields, topLogprobsOf(fields), {
        vocabularySize: serving.text.vocabularySize,
        endTokenIds: serving.text.endTokenIds,
        defaults: serving.text.samplingDefaults,
        defaultMaxTokens: undefined,
      });
      const rendered = renderedChat(serving.text, fields);
      return await answer(context, admitted, reply, {
        kind: "chat",
        model,
        prompts: [await serving.text.encodeChat(rendered)],
        params,
        logprobs: fields.logprobs === true,
        delivery: fields,
        echoOf: () => "",
        choiceBody: (collected) => ({
          message: { role: "assistant", content: collected.text, refusal: null },
          logprobs:
            fields.logprobs === true ? { content: collected.chatLogprobs, refusal: null } : null,
        }),
      });
    },
  );
}

function topLogprobsOf({ logprobs, top_logprobs }: ChatBody): number {
  if (logprobs === true) return top_logprobs ?? 0;
  if (typeof top_logprobs !== "number" || top_logprobs === 0) return -1;
  throw new EngineError("REQUEST_INVALID", "top_logprobs is set and logprobs is not true", {
    remedy: "Set logprobs to true or leave top_logprobs out.",
    param: "top_logprobs",
  });
}
