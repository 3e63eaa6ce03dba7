/**
 * The decoder that a `ModelSpec` means, in float64 and as plainly as it can be written. It proves
 * specs against Transformers, and devices against specs; it reads float tensors only.
 */
import type { LayerSpec, LayerWeights, Model, Rope, WeightSlice } from "./model-spec.ts";

type Matrix = readonly Float64Array[];

/** Bytes of one slice, from the start of a buffer of their own. */
type ReadSlice = (slice: WeightSlice) => Uint8Array;

/** Logits after each token: `[tokens][vocabulary]`. */
export class ReferenceForward {
  readonly #model: Model;
  readonly #read: ReadSlice;
  readonly #cache = new Map<WeightSlice, Matrix>();

  constructor(model: Model, read: ReadSlice) {
    this.#model = model;
    this.#read = read;
  }

  logits(tokenIds: readonly number[]): Matrix {
    const { spec, weights } = this.#model;
    const embedding = this.#matrix(weights.embedding);
    let hidden: Matrix = tokenIds.map((id) => scaled(row(embedding, id), spec.embeddingScale));
    for (const [index, layer] of weights.layers.entries()) {
      hidden = this.#layer(hidden, layer, at(spec.layers, index));
    }
    const normed = this.#norm(hidden, weights.finalNorm);
    const logits = matmul(normed, this.#matrix(weights.lmHead ?? weights.embedding));
    return logits.map((values) =>
      values.map((x) => softcap(x * spec.logitScale, spec.logitSoftcap)),
    );
  }

  #layer(input: Matrix, weights: LayerWeights, layer: LayerSpec): Matrix {
    const { residualScale } = this.#model.spec;
    const attended = this.#attention(this.#norm(input, weights.attentionNorm), weights, layer);
    const middle = added(input, this.#norm(attended, weights.postAttentionNorm), residualScale);
    const computed = this.#mlp(this.#norm(middle, weights.mlpNorm), weights);
    return added(middle, this.#norm(computed, weights.postMlpNorm), residualScale);
  }

  #attention(input: Matrix, weights: LayerWeights, layer: LayerSpec): Matrix {
    const { spec } = this.#model;
    const rope = at(spec.ropes, layer.rope);
    const rotated = (matrix: WeightSlice, bias?: WeightSlice, norm?: WeightSlice) =>
      this.#heads(input, matrix, bias).map((heads, position) =>
        this.#norm(heads, norm).map((head) => rotate(head, position, rope, spec.ropeLayout)),
      );
    const queries = rotated(weights.query, weights.queryBias, weights.queryNorm);
    const keys = rotated(weights.key, weights.keyBias, weights.keyNorm);
    const values = this.#heads(input, weights.value, weights.valueBias);
    const group = spec.headCount / spec.kvHeadCount;
    const output = queries.map((heads, position) => {
      const first = layer.window === 0 ? 0 : Math.max(0, position - layer.window + 1);
      const attended = heads.map((query, head) => {
        const kvHead = Math.floor(head / group);
        const seen = (all: readonly Matrix[]) =>
          all.slice(first, position + 1).map((one) => row(one, kvHead));
        return this.#attendHead(query, seen(keys), seen(values));
      });
      return Float64Array.from(attended.flatMap((head) => [...head]));
    });
    return matmul(output, this.#matrix(weights.attentionOutput));
  }

  #attendHead(query: Float64Array, keys: Matrix, values: Matrix): Float64Array {
    const { attentionScale, attentionSoftcap } = this.#model.spec;
    const scores = keys.map((key) => softcap(dot(query, key) * attentionScale, attentionSoftcap));
    const peak = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - peak));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return query.map((_, i) =>
      values.reduce((total, value, j) => total + (at(weights, j) / sum) * at(value, i), 0),
    );
  }

  #mlp(input: Matrix, weights: LayerWeights): Matrix {
    const up = matmul(input, this.#matrix(weights.up));
    const activation = this.#model.spec.activation === "silu" ? silu : geluTanh;
    const gated = matmul(input, this.#matrix(weights.gate)).map((gate, t) =>
      gate.map((x, i) => activation(x) * at(row(up, t), i)),
    );
    return matmul(gated, this.#matrix(weights.down));
  }

  /** `[tokens][heads][headDim]` */
  #heads(input: Matrix, matrix: WeightSlice, bias: WeightSlice | undefined): readonly Matrix[] {
    const { headDim } = this.#model.spec;
    const offsets = bias === undefined ? undefined : row(this.#matrix(bias), 0);
    return matmul(input, this.#matrix(matrix)).map((values) => {
      const shifted = offsets === undefined ? values : values.map((x, i) => x + at(offsets, i));
      const count = shifted.length / headDim;
      return Array.from({ length: count }, (_, h) => shifted.slice(h * headDim, (h + 1) * headDim));
    });
  }

  #norm(input: Matrix, slice: WeightSlice | undefined): Matrix {
    if (slice === undefined) return input;
    const { normEpsilon, normOffset } = this.#model.spec;
    const weight = row(this.#matrix(slice), 0);
    return input.map((values) => {
      const factor = 1 / Math.sqrt(dot(values, values) / values.length + normEpsilon);
      return values.map((x, i) => x * factor * (at(weight, i) + normOffset));
    });
  }

  #matrix(slice: WeightSlice): Matrix {
    let matrix = this.#cache.get(slice);
    if (matrix === undefined) {
      const { rows, columns } = slice;
      const values = floats(this.#read(slice), slice.type);
      matrix = Array.from({ length: rows }, (_, r) =>
        values.subarray(r * columns, (r + 1) * columns),
      );
      this.#cache.set(slice, matrix);
    }
    return matrix;
  }
}

function floats(bytes: Uint8Array, type: WeightSlice["type"]): Float64Array {
  const view = new DataView(bytes.buffer);
  if (type === "F32") {
    return Float64Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }
  if (type === "BF16") {
    const widened = new DataView(new ArrayBuffer(4));
    return Float64Array.from({ length: bytes.length / 2 }, (_, i) => {
      widened.setUint16(2, view.getUint16(2 * i, true), true);
      return widened.getFloat32(0, true);
    });
  }
  if (type !== "F16") throw new Error(`The reference does not read ${type}`);
  return Float64Array.from({ length: bytes.length / 2 }, (_, i) =>
    half(view.getUint16(2 * i, true)),
  );
}

function half(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  return exponent === 0
    ? sign * fraction * 2 ** -24
    : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function rotate(
  head: Float64Array,
  position: number,
  { inverseFrequencies, magnitude }: Rope,
  layout: "halves" | "adjacent",
): Float64Array {
  const output = head.slice();
  const half = inverseFrequencies.length;
  for (let i = 0; i < half; i++) {
    const [a, b] = layout === "halves" ? [i, i + half] : [2 * i, 2 * i + 1];
    const angle = position * at(inverseFrequencies, i);
    const cos = Math.cos(angle) * magnitude;
    const sin = Math.sin(angle) * magnitude;
    output[a] = at(head, a) * cos - at(head, b) * sin;
    output[b] = at(head, b) * cos + at(head, a) * sin;
  }
  return output;
}

function matmul(input: Matrix, weight: Matrix): Matrix {
  return input.map((values) => Float64Array.from(weight, (outputs) => dot(values, outputs)));
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] ?? 0) * (b[i] ?? 0);
  return sum;
}

function added(base: Matrix, change: Matrix, factor: number): Matrix {
  return base.map((values, t) => values.map((x, i) => x + factor * at(row(change, t), i)));
}

function scaled(values: Float64Array, factor: number): Float64Array {
  return values.map((x) => x * factor);
}

function softcap(x: number, cap: number): number {
  return cap === 0 ? x : cap * Math.tanh(x / cap);
}

function silu(x: number): number {
  return x / (1 + Math.exp(-x));
}

function geluTanh(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

function row(matrix: Matrix, index: number): Float64Array {
  return at(matrix, index);
}

function at<T>(values: { readonly length: number; readonly [index: number]: T }, index: number): T {
  const value = values[index];
  if (value === undefined) throw new Error(`Index ${index} is outside ${values.length} values`);
  return value;
}
