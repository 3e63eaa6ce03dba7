import { type Fields, unsupported } from "./fields.ts";
import type { Rope } from "./model-spec.ts";

/** What a rope needs to know besides the checkpoint's own description of it. */
interface RopeContext {
  /** Elements of a head that are rotated. */
  readonly dimensions: number;
  /** Longest context that the checkpoint was made for. */
  readonly contextLength: number;
  /** Longest request that will be served: longrope chooses its factors by it. */
  readonly maxModelLen: number;
  /** Context before longrope stretched it, where the scaling itself does not say. */
  readonly originalContextLength?: number;
}

/** `base ** (-2 i / dimensions)` for each rotated pair i. */
function inverseFrequencies(base: number, dimensions: number): Float64Array {
  return Float64Array.from({ length: dimensions / 2 }, (_, i) => base ** ((-2 * i) / dimensions));
}

export function plainRope(base: number, dimensions: number): Rope {
  return {
    inverseFrequencies: Float32Array.from(inverseFrequencies(base, dimensions)),
    magnitude: 1,
  };
}

/** Every position divided by `factor` (position interpolation). */
export function linearRope(base: number, dimensions: number, factor: number): Rope {
  const frequencies = inverseFrequencies(base, dimensions).map((value) => value / factor);
  return { inverseFrequencies: Float32Array.from(frequencies), magnitude: 1 };
}

/**
 * Each frequency divided by its own factor: longrope, and the `rope_freqs` tensor of GGUF files.
 *
 * @param factors one for each rotated pair
 */
export function dividedRope(
  base: number,
  dimensions: number,
  factors: ArrayLike<number>,
  magnitude: number,
): Rope {
  if (factors.length !== dimensions / 2) {
    throw unsupported(
      `The rope has ${factors.length} factors for ${dimensions / 2} rotated pairs`,
      "Use a checkpoint whose rope factors match its head size.",
    );
  }
  const frequencies = inverseFrequencies(base, dimensions).map(
    (value, i) => value / (factors[i] ?? 1),
  );
  return { inverseFrequencies: Float32Array.from(frequencies), magnitude };
}

/**
 * A layer's rope from `config.json`.
 *
 * @param scaling `rope_scaling`, or `rope_parameters` of Transformers 5; undefined for none
 * @throws EngineError MODEL_UNSUPPORTED for a type of scaling that is not known here
 */
export function configRope(base: number, scaling: Fields | undefined, context: RopeContext): Rope {
  const type = scaling?.text("rope_type", scaling.text("type", "default")) ?? "default";
  if (scaling === undefined || type === "default") return plainRope(base, context.dimensions);
  switch (type) {
    case "linear":
      return linearRope(base, context.dimensions, scaling.number("factor"));
    case "llama3":
      return llama3Rope(base, scaling, context);
    case "longrope":
    case "su":
      return longRope(base, scaling, context);
    default:
      throw unsupported(
        `The rope scaling "${type}" is not supported`,
        "Use a checkpoint with rope type default, linear, llama3 or longrope.",
      );
  }
}

/**
 * Llama 3.1's scaling: short wavelengths stay, long ones are divided by `factor`, and those between
 * are blended.
 */
function llama3Rope(base: number, scaling: Fields, context: RopeContext): Rope {
  const factor = scaling.number("factor");
  const lowFactor = scaling.number("low_freq_factor");
  const highFactor = scaling.number("high_freq_factor");
  const original = scaling.count("original_max_position_embeddings");
  const frequencies = inverseFrequencies(base, context.dimensions).map((frequency) => {
    const turns = (original * frequency) / (2 * Math.PI);
    if (turns < lowFactor) return frequency / factor;
    if (turns > highFactor) return frequency;
    const smooth = (turns - lowFactor) / (highFactor - lowFactor);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  });
  return { inverseFrequencies: Float32Array.from(frequencies), magnitude: 1 };
}

/**
 * Longrope keeps two sets of factors. The long ones are taken when requests may pass the original
 * context, and then for every request: the cached keys of one request cannot change their rotation.
 */
function longRope(base: number, scaling: Fields, context: RopeContext): Rope {
  const original = scaling.count("original_max_position_embeddings", context.originalContextLength);
  const factors = scaling.numbers(context.maxModelLen > original ? "long_factor" : "short_factor");
  const stretch = context.contextLength / original;
  const magnitude = scaling.has("attention_factor")
    ? scaling.number("attention_factor")
    : longRopeMagnitude(scaling.has("factor") ? scaling.number("factor") : stretch, original);
  return dividedRope(base, context.dimensions, factors, magnitude);
}

/** Ding et al., LongRoPE (2024): what keeps the scores' entropy as the context grows. */
function longRopeMagnitude(stretch: number, original: number): number {
  return stretch <= 1 ? 1 : Math.sqrt(1 + Math.log(stretch) / Math.log(original));
}
