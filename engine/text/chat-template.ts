import { Template } from "@huggingface/jinja";

import { EngineError } from "../errors.ts";
import type { Checkpoint, JsonObject, JsonValue } from "../models/model-spec.ts";
import { ggufTokenId, ggufTokenTexts } from "./gguf-tokenizer.ts";
import type { SpecialTokens } from "./special-tokens.ts";
import { type TemplateFeatures, templateMessages } from "./template-messages.ts";

export interface RenderOptions {
  /** Function definitions, as the request's `tools` has them. */
  readonly tools?: readonly JsonObject[];
  /** Ends the prompt where the assistant's answer begins. */
  readonly addGenerationPrompt: boolean;
  /** Further variables of the template (`chat_template_kwargs`). */
  readonly extra?: JsonObject;
}

/** What a template may refer to besides the messages, such as `bos_token`. */
export type TemplateTokens = Readonly<Record<string, string>>;

/** Variables that a request may not replace. */
const reserved: ReadonlySet<string> = new Set([
  "messages",
  "tools",
  "add_generation_prompt",
  "raise_exception",
  "strftime_now",
  "range",
  "true",
  "false",
  "none",
  "True",
  "False",
  "None",
]);

/** A model's own way to write a conversation as one prompt. */
export class ChatTemplate {
  readonly #template: Template;
  readonly #tokens: TemplateTokens;
  readonly #specialTokens: SpecialTokens;
  readonly #features: TemplateFeatures;

  /** @throws EngineError MODEL_UNSUPPORTED when the template cannot be parsed */
  constructor(source: string, tokens: TemplateTokens, specialTokens: SpecialTokens) {
    this.#template = parseTemplate(source);
    this.#tokens = tokens;
    this.#specialTokens = specialTokens;
    this.#features = {
      tools: /\btools\b/.test(source),
      toolCalls: /\btool_calls\b/.test(source),
      noneContent: /content['"]?\]?\s+is\s+(not\s+)?none\b/i.test(source),
      developerRole: /\bdeveloper\b/.test(source),
    };
  }

  /**
   * The prompt of a conversation, for `Tokenizer.encodePrompt` alone: control tokens that stand in
   * messages, tools or variables are shielded in it.
   *
   * @param messages as the request has them; contents may be strings, null or lists of text parts
   * @throws EngineError UNSUPPORTED_FIELD for parts that the template would drop in silence,
   *   REQUEST_INVALID when the template refuses the conversation
   */
  render(messages: readonly JsonObject[], options: RenderOptions): string {
    const { tools = [], addGenerationPrompt, extra = {} } = options;
    if (tools.length > 0 && !this.#features.tools) {
      throw new EngineError("UNSUPPORTED_FIELD", "The model's chat template knows no tools", {
        remedy: "Leave tools away, or serve a model that was trained to call them.",
        param: "tools",
      });
    }
    const clash = Object.keys(extra).find((name) => reserved.has(name) || name in this.#tokens);
    if (clash !== undefined) {
      throw new EngineError("REQUEST_INVALID", `The template variable "${clash}" is taken`, {
        remedy: "Choose other names in chat_template_kwargs.",
        param: "chat_template_kwargs",
      });
    }
    const variables = this.#shield({
      ...extra,
      messages: templateMessages(messages, this.#features),
      ...(tools.length > 0 && { tools }),
    });
    try {
      return this.#template.render({
        ...this.#tokens,
        ...(variables as JsonObject),
        add_generation_prompt: addGenerationPrompt,
      });
    } catch (error) {
      throw this.#refusal(error);
    }
  }

  /** The rendered prompt as a person should see it. */
  displayed(rendered: string): string {
    return this.#specialTokens.unshield(rendered);
  }

  #shield(value: JsonValue): JsonValue {
    if (typeof value === "string") return this.#specialTokens.shield(value);
    if (typeof value !== "object" || value === null) return value;
    if (Array.isArray(value)) return value.map((item) => this.#shield(item));
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [
        this.#specialTokens.shield(key),
        this.#shield(item),
      ]),
    );
  }

  #refusal(error: unknown): EngineError {
    const reason = error instanceof Error ? error.message : String(error);
    return new EngineError(
      "REQUEST_INVALID",
      `The model's chat template refuses the messages: ${this.displayed(reason)}`,
      { remedy: "Change roles, order or contents as it says.", param: "messages", cause: error },
    );
  }
}

/**
 * @returns undefined when the checkpoint has no template: a base model, which answers completions
 *   but no conversations
 * @throws EngineError MODEL_UNSUPPORTED when the template cannot be parsed
 */
export function openChatTemplate(
  { source }: Checkpoint,
  specialTokens: SpecialTokens,
): ChatTemplate | undefined {
  if (source.format === "gguf") {
    const template = source.metadata.get("tokenizer.chat_template");
    if (typeof template !== "string") return undefined;
    const texts = ggufTokenTexts(source.metadata);
    const token = (name: string) => texts[ggufTokenId(source.metadata, `${name}_token_id`) ?? -1];
    const tokens = {
      bos_token: token("bos"),
      eos_token: token("eos"),
      pad_token: token("padding"),
      unk_token: token("unknown"),
    };
    return new ChatTemplate(template, withoutUndefined(tokens), specialTokens);
  }
  if (source.chatTemplate === undefined) return undefined;
  const config = source.tokenizerConfig ?? {};
  const names = ["bos_token", "eos_token", "pad_token", "unk_token"];
  const tokens = Object.fromEntries(names.map((name) => [name, tokenText(config[name])]));
  return new ChatTemplate(source.chatTemplate, withoutUndefined(tokens), specialTokens);
}

/** The refusal of a conversation by a model without a template. */
export function noChatTemplate(): EngineError {
  return new EngineError(
    "REQUEST_INVALID",
    "The model has no chat template, as base models have none",
    { remedy: "Send a prompt to /v1/completions, or serve the model's instruction-tuned variant." },
  );
}

function parseTemplate(source: string): Template {
  try {
    return new Template(source);
  } catch (error) {
    throw unreadableTemplate(error);
  }
}

function unreadableTemplate(cause: unknown): EngineError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new EngineError("MODEL_UNSUPPORTED", `The chat template cannot be parsed: ${reason}`, {
    remedy: "Use a checkpoint whose chat template is Jinja as Transformers reads it.",
    cause,
  });
}

/** `tokenizer_config.json` writes a token as its text, or as an object with `content`. */
function tokenText(value: JsonValue | undefined): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  return tokenText((value as JsonObject)["content"]);
}

function withoutUndefined(tokens: Readonly<Record<string, string | undefined>>): TemplateTokens {
  return Object.fromEntries(
    Object.entries(tokens).flatMap(([name, text]) => (text === undefined ? [] : [[name, text]])),
  );
}
