import { EngineError } from "../errors.ts";
import type { JsonObject, JsonValue } from "../models/model-spec.ts";

/** What a template's source shows that it can write. */
export interface TemplateFeatures {
  readonly tools: boolean;
  readonly toolCalls: boolean;
  /** Asks whether a content is none, as some do to recognise tool calls. */
  readonly noneContent: boolean;
  readonly developerRole: boolean;
}

/**
 * Messages in the one form that templates are written for: content is a string (null stays null only
 * for a template that asks for it), absent fields are absent, a tool call's arguments are an object.
 *
 * @throws EngineError UNSUPPORTED_FIELD or REQUEST_INVALID naming the field
 */
export function templateMessages(
  messages: readonly JsonObject[],
  features: TemplateFeatures,
): JsonObject[] {
  return messages.map((message, index) => templateMessage(message, `messages.${index}`, features));
}

function templateMessage(
  message: JsonObject,
  param: string,
  features: TemplateFeatures,
): JsonObject {
  const { content, tool_calls, role, ...rest } = message;
  const calls = toolCalls(tool_calls, `${param}.tool_calls`);
  if (calls.length > 0 && !features.toolCalls) {
    throw new EngineError("UNSUPPORTED_FIELD", "The model's chat template knows no tool calls", {
      remedy: "Leave tool calls away, or serve a model that was trained for them.",
      param: `${param}.tool_calls`,
    });
  }
  const present = Object.entries(rest).filter(([, value]) => value !== null && value !== undefined);
  return {
    role: role === "developer" && !features.developerRole ? "system" : (role ?? ""),
    content:
      content === null && features.noneContent ? null : contentText(content, `${param}.content`),
    ...Object.fromEntries(present),
    ...(calls.length > 0 && { tool_calls: calls }),
  };
}

/** Text parts are joined by newlines, as other servers do; null is the empty text. */
function contentText(content: JsonValue | undefined, param: string): string {
  if (content === null || content === undefined) return "";
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) throw invalid("A message's content is a string or a list", param);
  return content.map((part, index) => partText(part, `${param}.${index}`)).join("\n");
}

function partText(part: JsonValue, param: string): string {
  if (typeof part === "string") return part;
  const { type, text } = isObject(part) ? part : {};
  if (type !== "text") {
    throw new EngineError("UNSUPPORTED_FIELD", `Content of type "${type}" is not supported`, {
      remedy: "Send parts of type text only: this model reads no images or sounds.",
      param,
    });
  }
  if (typeof text !== "string") throw invalid("A text part has its text as a string", param);
  return text;
}

function toolCalls(calls: JsonValue | undefined, param: string): JsonObject[] {
  if (calls === null || calls === undefined) return [];
  if (!Array.isArray(calls)) throw invalid("tool_calls is a list", param);
  return calls.map((call, index) => {
    const callParam = `${param}.${index}`;
    const definition = isObject(call) ? call["function"] : undefined;
    if (!isObject(call) || !isObject(definition)) {
      throw invalid("A tool call is an object with a function", callParam);
    }
    const callArguments = parsedArguments(
      definition["arguments"],
      `${callParam}.function.arguments`,
    );
    return { ...call, function: { ...definition, arguments: callArguments } };
  });
}

/** OpenAI's wire has a call's arguments as JSON in a string; templates take them as an object. */
function parsedArguments(value: JsonValue | undefined, param: string): JsonObject {
  const parsed = typeof value === "string" ? parseJson(value || "{}", param) : (value ?? {});
  if (!isObject(parsed)) throw invalid("A tool call's arguments are a JSON object", param);
  return parsed;
}

function parseJson(text: string, param: string): JsonValue {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalid("A tool call's arguments are not JSON", param, error);
  }
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalid(message: string, param: string, cause?: unknown): EngineError {
  return new EngineError("REQUEST_INVALID", message, {
    remedy: "Send the messages as OpenAI's chat completions describe them.",
    param,
    cause,
  });
}
