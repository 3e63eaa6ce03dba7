/**
 * The forward pass in float64, one token at a time and without any cleverness: what tests hold the
 * devices against.
 */
import type { ModelSpec, WeightSlice } from "../models/model-spec.ts";
import type { TinyModel } from "./tiny-model.ts";

type Vector = number[];

/** Log-probabilities of the next token after each token: `[tokenIds.length][vocabSize]`. */
export function referenceLogprobs(tiny: TinyModel, tokenIds: readonly number[]): Vector[] {
  const forward = new ReferenceForward(tiny);
  return tokenIds.map((tokenId) => logSoftmax(forward.step(tokenId)));
}

class ReferenceForward {
  readonly #tiny: TinyModel;
  readonly #spec: ModelSpec;
  /** Per layer and position: keys and values of all KV heads. */
  readonly #keys: Vector[][];
  readonly #values: Vector[][];
  #position = 0;

  constructor(tiny: TinyModel) {
    this.#tiny = tiny;
    this.#spec = tiny.model.spec;
    this.#keys = this.#spec.layers.map(() => []);
    this.#values = this.#spec.layers.map(() => []);
  }

  step(tokenId: number): Vector {
    const { weights } = this.#tiny.model;
    const spec = this.#spec;
    const table = this.#tiny.valuesOf(weights.embedding);
    const start = tokenId * spec.hiddenSize;
    let hidden = Array.from(
      table.subarray(start, start + spec.hiddenSize),
      (x) => x * spec.embeddingScale,
    );
    for (let layer = 0; layer < spec.layers.length; layer++) {
      hidden = this.#addBlock(hidden, this.#attentionBlock(hidden, layer));
      hidden = this.#addBlock(hidden, this.#mlpBlock(hidden, layer));
    }
    this.#position++;
    const normed = this.#norm(hidden, weights.finalNorm);
    return this.#multiply(weights.lmHead ?? weights.embedding, normed).map((x) =>
      softcap(x * spec.logitScale, spec.logitSoftcap),
    );
  }

  #addBlock(hidden: Vector, output: Vector): Vector {
    return hidden.map((x, i) => x + this.#spec.residualScale * at(output, i));
  }

  #attentionBlock(hidden: Vector, layer: number): Vector {
    const weights = this.#layerWeights(layer);
    const normed = this.#norm(hidden, weights.attentionNorm);
    const query = this.#multiply(weights.query, normed, weights.queryBias);
    const key = this.#multiply(weights.key, normed, weights.keyBias);
    const value = this.#multiply(weights.value, normed, weights.valueBias);
    const turnedQuery = this.#turn(query, layer, weights.queryNorm);
    at(this.#keys, layer).push(this.#turn(key, layer, weights.keyNorm));
    at(this.#values, layer).push(value);
    const attended = this.#multiply(weights.attentionOutput, this.#attend(turnedQuery, layer));
    return weights.postAttentionNorm ? this.#norm(attended, weights.postAttentionNorm) : attended;
  }

  #mlpBlock(hidden: Vector, layer: number): Vector {
    const weights = this.#layerWeights(layer);
    const normed = this.#norm(hidden, weights.mlpNorm);
    const activate = this.#spec.activation === "silu" ? silu : geluTanh;
    const up = this.#multiply(weights.up, normed);
    const gated = this.#multiply(weights.gate, normed).map((x, i) => activate(x) * at(up, i));
    const output = this.#multiply(weights.down, gated);
    return weights.postMlpNorm ? this.#norm(output, weights.postMlpNorm) : output;
  }

  #attend(query: Vector, layer: number): Vector {
    const { headCount, kvHeadCount, headDim, attentionScale, attentionSoftcap } = this.#spec;
    const { window } = at(this.#spec.layers, layer);
    const first = window === 0 ? 0 : Math.max(0, this.#position - window + 1);
    const keys = at(this.#keys, layer).slice(first);
    const values = at(this.#values, layer).slice(first);
    const output: Vector = [];
    for (let head = 0; head < headCount; head++) {
      const kvStart = Math.floor(head / (headCount / kvHeadCount)) * headDim;
      const scores = keys.map((key) => {
        let sum = 0;
        for (let d = 0; d < headDim; d++)
          sum += at(query, head * headDim + d) * at(key, kvStart + d);
        return softcap(sum * attentionScale, attentionSoftcap);
      });
      const shares = logSoftmax(scores).map(Math.exp);
      for (let d = 0; d < headDim; d++) {
        output.push(
          values.reduce((sum, value, i) => sum + at(shares, i) * at(value, kvStart + d), 0),
        );
      }
    }
    return output;
  }

  /** Norm of each head, where there is one, then RoPE. */
  #turn(heads: Vector, layer: number, norm: WeightSlice | undefined): Vector {
    const { headDim, ropes, ropeLayout, layers } = this.#spec;
    const rope = at(ropes, at(layers, layer).rope);
    const pairs = rope.inverseFrequencies.length;
    const output: Vector = [];
    for (let start = 0; start < heads.length; start += headDim) {
      const part = heads.slice(start, start + headDim);
      const head = norm ? this.#norm(part, norm) : part;
      const turned = [...head];
      for (let i = 0; i < pairs; i++) {
        const [a, b] = ropeLayout === "halves" ? [i, i + pairs] : [2 * i, 2 * i + 1];
        const angle = this.#position * at(rope.inverseFrequencies, i);
        const cosine = Math.cos(angle) * rope.magnitude;
        const sine = Math.sin(angle) * rope.magnitude;
        turned[a] = at(head, a) * cosine - at(head, b) * sine;
        turned[b] = at(head, b) * cosine + at(head, a) * sine;
      }
      output.push(...turned);
    }
    return output;
  }

  #norm(input: Vector, weight: WeightSlice): Vector {
    const values = this.#tiny.valuesOf(weight);
    const mean = input.reduce((sum, x) => sum + x * x, 0) / input.length;
    const inverse = 1 / Math.sqrt(mean + this.#spec.normEpsilon);
    return input.map((x, i) => x * inverse * (at(values, i) + this.#spec.normOffset));
  }

  #multiply(matrix: WeightSlice, input: Vector, bias?: WeightSlice): Vector {
    const values = this.#tiny.valuesOf(matrix);
    const biases = bias ? this.#tiny.valuesOf(bias) : undefined;
    return Array.from({ length: matrix.rows }, (_, row) =>
      input.reduce(
        (sum, x, column) => sum + x * at(values, row * matrix.columns + column),
        biases ? at(biases, row) : 0,
      ),
    );
  }

  #layerWeights(layer: number) {
    return at(this.#tiny.model.weights.layers, layer);
  }
}

function silu(x: number): number {
  return x / (1 + Math.exp(-x));
}

function geluTanh(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

function softcap(x: number, cap: number): number {
  return cap === 0 ? x : cap * Math.tanh(x / cap);
}

function logSoftmax(x: Vector): Vector {
  const max = Math.max(...x);
  const logSum = max + Math.log(x.reduce((sum, value) => sum + Math.exp(value - max), 0));
  return x.map((value) => value - logSum);
}

function at<T>(values: ArrayLike<T>, index: number): T {
  const value = values[index];
  if (value === undefined) throw new Error(`no element ${index} of ${values.length}`);
  return value;
}
