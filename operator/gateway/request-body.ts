import { GatewayError } from "./gateway-error.ts";

/** Characters that decide the replica: enough to tell conversations apart. */
const maxAffinityLength = 4096;

/** What the gateway reads of a request; the bytes themselves go on untouched. */
export interface RoutedBody {
  readonly model: string;
  /** Equal for prompts that share their beginning; `undefined` where there is no prompt. */
  readonly affinityKey: string | undefined;
}

/**
 * @throws GatewayError `invalid_json` or `missing_model`.
 */
export function readBody(bytes: Buffer): RoutedBody {
  const body = parse(bytes);
  const model = body["model"];
  if (typeof model !== "string" || model === "") {
    throw new GatewayError("missing_model", "the body names no model", {
      remedy: 'Set "model" to a name that GET /v1/models lists.',
      param: "model",
    });
  }
  return { model, affinityKey: affinityKeyOf(body) };
}

function parse(bytes: Buffer): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString("utf8"));
  } catch (error) {
    throw invalidJson(error instanceof Error ? error.message : String(error), error);
  }
  if (!isObject(value)) throw invalidJson("it is not an object");
  return value;
}

function invalidJson(why: string, cause?: unknown): GatewayError {
  return new GatewayError("invalid_json", `the body is not a JSON object: ${why}`, {
    remedy: 'Send a JSON object with "model" in it.',
    cause,
  });
}

/**
 * All that comes before and with the first user message: every turn of a conversation has the same
 * one, and conversations under one system prompt have different ones. A key of the system prompt
 * alone would send them all to one replica.
 */
function affinityKeyOf(body: Record<string, unknown>): string | undefined {
  const messages = body["messages"];
  if (Array.isArray(messages)) {
    const firstUser = messages.findIndex(
      (message) => isObject(message) && message["role"] === "user",
    );
    const beginning = firstUser < 0 ? messages : messages.slice(0, firstUser + 1);
    // The end of it: a long system prompt is common to all, the question is not.
    return JSON.stringify(beginning).slice(-maxAffinityLength);
  }
  const prompt = body["prompt"] ?? body["input"];
  if (prompt === undefined) return undefined;
  return JSON.stringify(prompt).slice(0, maxAffinityLength);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
