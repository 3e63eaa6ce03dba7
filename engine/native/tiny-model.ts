/** Random models of a few thousand weights for tests, and what their tensors hold. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { LayerWeights, Model, ModelSpec, WeightSlice } from "../models/model-spec.ts";

/** Optional tensors that a layer gets. */
export interface TinyFeatures {
  readonly biases: boolean;
  readonly headNorms: boolean;
  readonly postNorms: boolean;
  readonly tied: boolean;
}

export class TinyModel {
  readonly model: Model;
  /** By `WeightSlice.offset`, in float32 as stored. */
  readonly #values = new Map<number, Float32Array<ArrayBuffer>>();
  readonly #directory = mkdtempSync(path.join(tmpdir(), "quire-tiny-"));
  readonly #random = gaussian(7);
  #bytes = 0;

  constructor(spec: ModelSpec, features: TinyFeatures) {
    const file = path.join(this.#directory, "weights.bin");
    const weights = {
      embedding: this.#slice("embedding", spec.vocabSize, spec.hiddenSize),
      finalNorm: this.#slice("final_norm", 1, spec.hiddenSize),
      ...(features.tied ? {} : { lmHead: this.#slice("lm_head", spec.vocabSize, spec.hiddenSize) }),
      layers: spec.layers.map((_, i) => this.#layer(`layers.${i}`, spec, features)),
    };
    this.model = { spec, weights, files: [file] };
    writeFileSync(
      file,
      Buffer.concat([...this.#values.values()].map((v) => Buffer.from(v.buffer))),
    );
  }

  bytesOf(slice: WeightSlice): Uint8Array {
    const values = this.#values.get(slice.offset);
    if (values === undefined) throw new Error(`no tensor at ${slice.offset}`);
    return new Uint8Array(values.buffer.slice(0));
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true });
  }

  #layer(name: string, spec: ModelSpec, features: TinyFeatures): LayerWeights {
    const { hiddenSize, headDim, ffnSize } = spec;
    const queries = spec.headCount * headDim;
    const keys = spec.kvHeadCount * headDim;
    const slice = (part: string, rows: number, columns: number) =>
      this.#slice(`${name}.${part}`, rows, columns);
    return {
      attentionNorm: slice("attention_norm", 1, hiddenSize),
      query: slice("query", queries, hiddenSize),
      key: slice("key", keys, hiddenSize),
      value: slice("value", keys, hiddenSize),
      ...(features.biases
        ? {
            queryBias: slice("query_bias", 1, queries),
            keyBias: slice("key_bias", 1, keys),
            valueBias: slice("value_bias", 1, keys),
          }
        : {}),
      ...(features.headNorms
        ? { queryNorm: slice("query_norm", 1, headDim), keyNorm: slice("key_norm", 1, headDim) }
        : {}),
      attentionOutput: slice("attention_output", hiddenSize, queries),
      mlpNorm: slice("mlp_norm", 1, hiddenSize),
      gate: slice("gate", ffnSize, hiddenSize),
      up: slice("up", ffnSize, hiddenSize),
      down: slice("down", hiddenSize, ffnSize),
      ...(features.postNorms
        ? {
            postAttentionNorm: slice("post_attention_norm", 1, hiddenSize),
            postMlpNorm: slice("post_mlp_norm", 1, hiddenSize),
          }
        : {}),
    };
  }

  /** Matrices keep the size of what goes through them; vectors are large enough to be seen. */
  #slice(name: string, rows: number, columns: number): WeightSlice {
    const scale = rows === 1 ? 0.7 : 1.5 / Math.sqrt(columns);
    const values = Float32Array.from({ length: rows * columns }, () => scale * this.#random());
    const offset = this.#bytes;
    this.#values.set(offset, values);
    this.#bytes += values.byteLength;
    return { name, type: "F32", rows, columns, file: 0, offset, byteLength: values.byteLength };
  }
}

/** Llama's shape: nothing but what every model has. */
export function aSpec(changes: Partial<ModelSpec> = {}): ModelSpec {
  const headDim = changes.headDim ?? 8;
  return {
    architecture: "LlamaForCausalLM",
    vocabSize: 90,
    hiddenSize: 40,
    headCount: 4,
    kvHeadCount: 2,
    headDim,
    ffnSize: 56,
    contextLength: 128,
    normEpsilon: 1e-5,
    normOffset: 0,
    activation: "silu",
    ropeLayout: "halves",
    ropes: [aRope(headDim / 2, 100)],
    layers: [
      { window: 0, rope: 0 },
      { window: 0, rope: 0 },
    ],
    embeddingScale: 1,
    attentionScale: headDim ** -0.5,
    residualScale: 1,
    logitScale: 1,
    attentionSoftcap: 0,
    logitSoftcap: 0,
    ...changes,
  };
}

export function aRope(pairs: number, base: number, magnitude = 1) {
  const inverseFrequencies = Float32Array.from({ length: pairs }, (_, i) => base ** (-i / pairs));
  return { inverseFrequencies, magnitude };
}

/** Normally distributed numbers, the same ones for the same seed (Box and Muller over mulberry32). */
function gaussian(seed: number): () => number {
  let state = seed;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}
