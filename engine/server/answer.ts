import { randomUUID } from "node:crypto";
import type { FastifyReply } from "fastify";
import { EngineError } from "../errors.ts";
import type { SamplingParams } from "../sampling/sampling-params.ts";
import type { Choice } from "./choice.ts";
import { type ChunkOptions, ChunkWriter } from "./chunk-writer.ts";
import { type AdmittedRequest, clientGone, type RouteContext } from "./context.ts";
import { type CollectedChoice, PlainAnswer } from "./plain-answer.ts";
import { EventStream } from "./sse.ts";
import { startChoices } from "./start-choices.ts";
import { usageOf } from "./usage.ts";

/** Body fields of both generating endpoints that are about delivery. */
export interface DeliveryFields {
  readonly stream?: boolean | null;
  readonly stream_options?: {
    readonly include_usage?: boolean | null;
    readonly continuous_usage_stats?: boolean | null;
  } | null;
  readonly priority?: number | null;
  readonly cache_salt?: string | null;
  readonly return_token_ids?: boolean | null;
}

/** A checked request, ready to be generated and answered. */
export interface AnswerPlan {
  readonly kind: "chat" | "completion";
  readonly model: string;
  readonly prompts: readonly Int32Array[];
  readonly params: SamplingParams;
  readonly logprobs: boolean;
  readonly delivery: DeliveryFields;
  /** Text before a choice's output: its prompt, when it is echoed. */
  readonly echoOf: (choice: Choice) => string;
  /** A choice of the plain answer. */
  readonly choiceBody: (collected: CollectedChoice) => Readonly<Record<string, unknown>>;
}

const idPrefixes = { chat: "chatcmpl-", completion: "cmpl-" } as const;
const plainObjects = { chat: "chat.completion", completion: "text_completion" } as const;

/**
 * Generates every choice of a request and answers it, streamed or in one piece.
 *
 * @returns the body, or the reply when it was streamed
 */
export async function answer(
  context: RouteContext,
  admitted: AdmittedRequest,
  reply: FastifyReply,
  plan: AnswerPlan,
): Promise<unknown> {
  const { serving, signal } = admitted;
  if (signal.aborted) throw clientGone();
  const choices = startChoices(serving, context.metrics, {
    prompts: plan.prompts,
    params: plan.params,
    priority: plan.delivery.priority ?? 0,
    cacheSalt: plan.delivery.cache_salt ?? "",
    continuesText: plan.kind === "completion",
    maxChoices: context.limits.maxChoices,
    promptField: plan.kind === "chat" ? "messages" : "prompt",
  });
  const abortAll = () => {
    for (const choice of choices) choice.abort();
  };
  signal.addEventListener("abort", abortAll, { once: true });
  const usage = () => usageOf(choices, plan.params.choiceCount);
  const head = {
    id: idPrefixes[plan.kind] + randomUUID().replaceAll("-", ""),
    createdSeconds: Math.floor(Date.now() / 1000),
  };
  if (plan.delivery.stream === true) {
    const options: ChunkOptions = {
      ...head,
      kind: plan.kind,
      model: plan.model,
      text: serving.text,
      logprobs: plan.logprobs,
      tokenIds: plan.delivery.return_token_ids === true,
      usage: usageMode(plan.delivery),
      usageNow: usage,
      echoOf: plan.echoOf,
    };
    return streamed(context, reply, choices, options);
  }
  const plain = new PlainAnswer(serving.text, {
    kind: plan.kind,
    logprobs: plan.logprobs,
    echoOf: plan.echoOf,
  });
  await runAll(choices, plain);
  return {
    id: head.id,
    object: plainObjects[plan.kind],
    created: head.createdSeconds,
    model: plan.model,
    choices: choices.map((choice) => {
      const collected = plain.of(choice);
      return {
        index: choice.index,
        ...plan.choiceBody(collected),
        finish_reason: choice.finishReason,
        stop_reason: choice.stopReason,
        ...(plan.delivery.return_token_ids === true && {
          token_ids: collected.tokenIds,
          prompt_token_ids: [...choice.promptTokenIds],
        }),
      };
    }),
    usage: usage(),
  };
}

async function streamed(
  context: RouteContext,
  reply: FastifyReply,
  choices: readonly Choice[],
  options: ChunkOptions,
): Promise<FastifyReply> {
  const stream = new EventStream(reply, {
    flusher: context.flusher,
    maxBufferBytes: context.limits.maxStreamBufferBytes,
    onSlowReader: () => context.metrics.slowReaderAborted(),
  });
  const writer = new ChunkWriter(stream, options);
  try {
    await runAll(choices, writer);
    writer.end();
  } catch (error) {
    if (!stream.opened) throw error;
    const expected = error instanceof EngineError && error.code === "ABORTED";
    if (!expected) reply.log.error({ err: error }, "stream failed");
    writer.fail(error);
  }
  return reply;
}

/** Runs all choices to their end; the first failure ends the others and is thrown. */
async function runAll(choices: readonly Choice[], sink: ChunkWriter | PlainAnswer): Promise<void> {
  const runs = choices.map((choice) => choice.run(sink));
  try {
    await Promise.all(runs);
  } catch (error) {
    for (const choice of choices) choice.abort();
    await Promise.allSettled(runs);
    throw error;
  }
}

function usageMode({ stream_options }: DeliveryFields): ChunkOptions["usage"] {
  if (stream_options?.continuous_usage_stats === true) return "every";
  return stream_options?.include_usage === true ? "last" : "none";
}

/** @throws EngineError REQUEST_INVALID when options of streaming come without it */
export function requireStreamOptions({ stream, stream_options }: DeliveryFields): void {
  if (stream === true || stream_options === undefined || stream_options === null) return;
  throw new EngineError("REQUEST_INVALID", "stream_options is set and stream is not true", {
    remedy: "Set stream to true or leave stream_options out.",
    param: "stream_options",
  });
}
