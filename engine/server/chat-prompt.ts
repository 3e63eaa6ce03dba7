import type { JsonObject } from "../models/model-spec.ts";
import type { Text } from "./text-port.ts";

/** Body fields that say how a conversation becomes a prompt. */
export interface ChatFields {
  readonly messages: readonly JsonObject[];
  readonly add_generation_prompt?: boolean | null;
  readonly chat_template_kwargs?: JsonObject | null;
}

export const maxMessages = 4096;

export const chatFields = {
  messages: {
    type: "array",
    description: "The conversation, oldest first.",
    minItems: 1,
    maxItems: maxMessages,
    items: {
      type: "object",
      required: ["role"],
      properties: {
        role: { type: "string", enum: ["system", "developer", "user", "assistant", "tool"] },
        content: {
          type: ["string", "array", "null"],
          description: "A text, or an array of parts of type text.",
        },
      },
    },
  },
  add_generation_prompt: {
    type: ["boolean", "null"],
    description: "End the prompt where the answer begins. Default true.",
  },
  chat_template_kwargs: {
    type: ["object", "null"],
    description: "Further variables of the chat template.",
  },
} as const;

/** @throws EngineError REQUEST_INVALID or UNSUPPORTED_FIELD from the template */
export function renderedChat(text: Text, fields: ChatFields): string {
  return text.renderChat(fields.messages, {
    addGenerationPrompt: fields.add_generation_prompt !== false,
    extra: fields.chat_template_kwargs ?? {},
  });
}
