/** One streamed completion against any OpenAI endpoint, and when each of its tokens came. */
import { Agent, type IncomingMessage, type RequestOptions, request as send } from "node:http";
import { request as sendSecurely } from "node:https";
import type { BenchRequest } from "./workload.ts";

export interface Target {
  readonly url: URL;
  readonly model: string;
  readonly apiKey: string | undefined;
  readonly ignoreEos: boolean;
  readonly timeoutMs: number;
}

/** Times are milliseconds of `performance.now()`. */
export interface RequestRecord {
  readonly group: string;
  readonly sentMs: number;
  readonly doneMs: number;
  /** When each event that carried tokens came. */
  readonly eventMs: readonly number[];
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  readonly requestedTokens: number;
  /** Why the request failed; `undefined` if it did not. */
  readonly error: string | undefined;
}

interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly prompt_tokens_details?: { readonly cached_tokens?: number } | null;
}

interface StreamEvent {
  readonly choices?: readonly { readonly text?: string }[];
  readonly usage?: Usage | null;
  readonly error?: { readonly message: string };
}

// As many sockets as there are requests in flight; they are kept between requests.
const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });

export async function complete(target: Target, request: BenchRequest): Promise<RequestRecord> {
  const sentMs = performance.now();
  const stream = new StreamRecord();
  let error: string | undefined;
  try {
    await stream.read(await post(target, request));
  } catch (cause) {
    error = cause instanceof Error ? cause.message : String(cause);
  }
  return {
    group: request.group,
    sentMs,
    doneMs: performance.now(),
    eventMs: stream.eventMs,
    promptTokens: stream.usage.prompt_tokens,
    cachedTokens: stream.usage.prompt_tokens_details?.cached_tokens ?? 0,
    outputTokens: stream.usage.completion_tokens,
    requestedTokens: request.maxTokens,
    error,
  };
}

const noUsage: Usage = { prompt_tokens: 0, completion_tokens: 0 };

class StreamRecord {
  readonly eventMs: number[] = [];
  usage = noUsage;

  async read(response: IncomingMessage): Promise<void> {
    if (response.statusCode !== 200) throw new Error(await refusal(response));
    for await (const event of events(response)) {
      if (event.error !== undefined) throw new Error(event.error.message);
      if (event.usage) this.usage = event.usage;
      if (event.choices?.[0]?.text) this.eventMs.push(performance.now());
    }
    if (this.usage === noUsage) throw new Error("the stream ended without usage");
  }
}

function post(target: Target, request: BenchRequest): Promise<IncomingMessage> {
  const body = JSON.stringify({
    model: target.model,
    prompt: request.prompt,
    max_tokens: request.maxTokens,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
    ...(target.ignoreEos ? { ignore_eos: true } : {}),
  });
  const secure = target.url.protocol === "https:";
  const options: RequestOptions = {
    method: "POST",
    path: `${target.url.pathname.replace(/\/$/, "")}/completions`,
    hostname: target.url.hostname,
    port: target.url.port,
    headers: {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
      ...(target.apiKey === undefined ? {} : { authorization: `Bearer ${target.apiKey}` }),
    },
    signal: AbortSignal.timeout(target.timeoutMs),
    ...(secure ? {} : { agent }),
  };
  return new Promise((resolve, reject) => {
    const outgoing = (secure ? sendSecurely : send)(options, resolve);
    outgoing.once("error", reject);
    outgoing.end(body);
  });
}

async function refusal(response: IncomingMessage): Promise<string> {
  let body = "";
  for await (const chunk of response) body += String(chunk);
  return `HTTP ${response.statusCode}: ${body.slice(0, 300)}`;
}

/** Server-sent events up to `[DONE]`; a stream that ends before it was cut. */
async function* events(response: IncomingMessage): AsyncGenerator<StreamEvent> {
  let pending = "";
  response.setEncoding("utf8");
  for await (const chunk of response) {
    const lines = (pending + String(chunk)).split("\n");
    pending = lines.pop() ?? "";
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      if (line.startsWith("data: [DONE]")) return;
      yield JSON.parse(line.slice("data: ".length)) as StreamEvent;
    }
  }
  throw new Error("the stream was cut before [DONE]");
}
