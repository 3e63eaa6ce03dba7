import { type Fields, ggufFields, jsonFields } from "./fields.ts";
import type { Checkpoint } from "./model-spec.ts";

/** What a checkpoint advises where a request does not say; absent where it is silent. */
export interface GenerationDefaults {
  readonly temperature?: number;
  readonly topP?: number;
  /** 0 is off. */
  readonly topK?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
}

const configNames = {
  temperature: "temperature",
  topP: "top_p",
  topK: "top_k",
  minP: "min_p",
  repetitionPenalty: "repetition_penalty",
} as const;

const ggufNames = {
  temperature: "temp",
  topP: "top_p",
  topK: "top_k",
  minP: "min_p",
  repetitionPenalty: "penalty_repeat",
} as const;

/** From `generation_config.json`, or GGUF's `general.sampling.*`. */
export function generationDefaults({ source }: Checkpoint): GenerationDefaults {
  return source.format === "gguf"
    ? readDefaults(ggufFields(source.metadata, "general.sampling."), ggufNames)
    : readDefaults(
        jsonFields("generation_config.json", source.generationConfig ?? {}),
        configNames,
      );
}

function readDefaults(
  fields: Fields,
  names: Readonly<Record<keyof GenerationDefaults, string>>,
): GenerationDefaults {
  const entries = Object.entries(names).flatMap(([name, key]) =>
    fields.has(key) ? [[name, fields.number(key)] as const] : [],
  );
  const defaults: GenerationDefaults = Object.fromEntries(entries);
  return defaults.topK !== undefined && defaults.topK < 0 ? { ...defaults, topK: 0 } : defaults;
}
