import { EngineError } from "../errors.ts";
import type { Generation } from "../generation.ts";
import type { EngineMetrics } from "../metrics/metrics.ts";
import type { SamplingParams } from "../sampling/sampling-params.ts";
import { Choice } from "./choice.ts";
import type { Serving } from "./lifecycle.ts";

export interface ChoicesRequest {
  readonly prompts: readonly Int32Array[];
  readonly params: SamplingParams;
  readonly priority: number;
  readonly cacheSalt: string;
  readonly continuesText: boolean;
  /** Choices that one HTTP request may ask for. */
  readonly maxChoices: number;
  /** Field that holds the prompt, for errors. */
  readonly promptField: "prompt" | "messages";
}

/**
 * Hands every choice of a request to the engine, or none: choice `p * n + i` is the i-th of prompt p.
 *
 * @throws EngineError REQUEST_INVALID, CONTEXT_LENGTH_EXCEEDED, or what `Engine.generate` throws
 */
export function startChoices(
  serving: Serving,
  metrics: EngineMetrics,
  request: ChoicesRequest,
): Choice[] {
  const { prompts, params } = request;
  requireChoiceCount(request);
  const maxTokens = prompts.map((prompt) =>
    maxTokensOf(prompt.length, serving.engine.maxModelLen, request),
  );
  const started: Generation[] = [];
  try {
    return prompts.flatMap((promptTokenIds, promptIndex) =>
      Array.from({ length: params.choiceCount }, (_, choiceIndex) => {
        const budget = maxTokens[promptIndex] ?? 0;
        const generation = serving.engine.generate({
          promptTokenIds,
          sampling: params.samplingOf(choiceIndex),
          maxTokens: budget,
          stopTokenIds: params.stopTokenIds,
          priority: request.priority,
          cacheSalt: request.cacheSalt,
        });
        started.push(generation);
        return new Choice(serving.text, {
          index: promptIndex * params.choiceCount + choiceIndex,
          promptTokenIds,
          params,
          generation,
          timer: metrics.begin(promptTokenIds.length, budget, params.choiceCount),
          continuesText: request.continuesText,
        });
      }),
    );
  } catch (error) {
    for (const generation of started) generation.abort();
    throw error;
  }
}

function requireChoiceCount({ prompts, params, maxChoices }: ChoicesRequest): void {
  const count = prompts.length * params.choiceCount;
  if (count <= maxChoices) return;
  throw new EngineError(
    "REQUEST_INVALID",
    `The request asks for ${count} choices (${prompts.length} prompts times n), the limit is ${maxChoices}`,
    { remedy: "Lower n or send fewer prompts in one request.", param: "n" },
  );
}

/** Tokens that a prompt may generate; without a wish it may fill the context. */
function maxTokensOf(
  promptLength: number,
  maxModelLen: number,
  { params, promptField }: ChoicesRequest,
): number {
  if (promptLength === 0) {
    throw new EngineError("REQUEST_INVALID", "The prompt is empty", {
      remedy: "Send at least one token.",
      param: promptField,
    });
  }
  const wanted = params.maxTokens ?? Math.max(maxModelLen - promptLength, params.minTokens, 1);
  if (promptLength + wanted <= maxModelLen) return wanted;
  throw new EngineError(
    "CONTEXT_LENGTH_EXCEEDED",
    `The maximum context length is ${maxModelLen} tokens, the request needs ${promptLength + wanted}: ` +
      `${promptLength} of prompt and ${wanted} to generate`,
    { remedy: "Shorten the prompt or lower max_tokens.", param: promptField },
  );
}
