/** A Llama of random bf16 weights: its speed is a trained model's, and it needs no download. */
import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";
import { encodePairs, type GgufTensorPlan, writeGguf } from "./gguf-writer.ts";

/** Where benchmarks keep what they make; not in git. */
export const benchDirectory = path.resolve(import.meta.dirname, "../../build/bench");

/** 492.6 million weights, 985 MB: more than the caches of any processor. */
const shape = {
  layers: 26,
  hidden: 1280,
  heads: 20,
  kvHeads: 5,
  headDim: 64,
  ffn: 3456,
  vocabulary: 32_000,
  context: 8192,
};

export const random500mDescription =
  `random Llama: ${shape.layers} layers, width ${shape.hidden}, MLP ${shape.ffn}, ` +
  `${shape.heads} heads over ${shape.kvHeads} of ${shape.headDim}, ` +
  `vocabulary ${shape.vocabulary}, tied, bf16`;

/**
 * Writes the model if it is not there yet; it is the same on every machine. Without a tokenizer, it
 * serves no text.
 */
export function random500mFile(): string {
  const file = path.join(benchDirectory, "random-500m.bf16.gguf");
  if (existsSync(file)) return file;
  mkdirSync(benchDirectory, { recursive: true });
  const draw = xorshift(1);
  const pairs = encodePairs([
    ["general.architecture", "llama"],
    ["general.name", "random 500M"],
    ["llama.block_count", shape.layers],
    ["llama.context_length", shape.context],
    ["llama.embedding_length", shape.hidden],
    ["llama.feed_forward_length", shape.ffn],
    ["llama.attention.head_count", shape.heads],
    ["llama.attention.head_count_kv", shape.kvHeads],
    ["llama.attention.layer_norm_rms_epsilon", { float32: 1e-5 }],
    ["llama.rope.dimension_count", shape.headDim],
    ["llama.rope.freq_base", { float32: 10_000 }],
    ["llama.vocab_size", shape.vocabulary],
    ["tokenizer.ggml.model", "no_vocab"],
  ]);
  writeGguf(file, pairs, tensors(), (tensor) =>
    tensor.type === "F32" ? ones(tensor) : randomBf16(tensor, draw),
  );
  return file;
}

function tensors(): readonly GgufTensorPlan[] {
  const { hidden, ffn } = shape;
  const queries = shape.heads * shape.headDim;
  const keys = shape.kvHeads * shape.headDim;
  const layers = Array.from({ length: shape.layers }, (_, i) => [
    norm(`blk.${i}.attn_norm`),
    matrix(`blk.${i}.attn_q`, queries, hidden),
    matrix(`blk.${i}.attn_k`, keys, hidden),
    matrix(`blk.${i}.attn_v`, keys, hidden),
    matrix(`blk.${i}.attn_output`, hidden, queries),
    norm(`blk.${i}.ffn_norm`),
    matrix(`blk.${i}.ffn_gate`, ffn, hidden),
    matrix(`blk.${i}.ffn_up`, ffn, hidden),
    matrix(`blk.${i}.ffn_down`, hidden, ffn),
  ]);
  return [matrix("token_embd", shape.vocabulary, hidden), norm("output_norm"), ...layers.flat()];
}

function norm(name: string): GgufTensorPlan {
  return { name: `${name}.weight`, type: "F32", shape: [shape.hidden] };
}

function matrix(name: string, rows: number, columns: number): GgufTensorPlan {
  return { name: `${name}.weight`, type: "BF16", shape: [rows, columns] };
}

function ones(tensor: GgufTensorPlan): Uint8Array {
  return new Uint8Array(new Float32Array(tensor.shape[0] ?? 0).fill(1).buffer);
}

/** Two weights a draw: random sign and mantissa, and a size of 2^-6 to 2^-5. */
function randomBf16(tensor: GgufTensorPlan, draw: () => number): Uint8Array {
  const count = tensor.shape.reduce((product, size) => product * size, 1);
  const words = new Uint32Array(count / 2);
  for (let i = 0; i < words.length; i++) words[i] = (draw() & 0x807f807f) | 0x3c803c80;
  return new Uint8Array(words.buffer);
}

/** 32 random bits at a time (xorshift32, Marsaglia 2003). */
function xorshift(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state;
  };
}
