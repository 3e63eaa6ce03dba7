/**
 * The one description of a model that the devices understand, and the checkpoint that it is built
 * from. A new architecture is a function from `Checkpoint` to `Model`; no kernel learns its name.
 */

/** How the numbers of a tensor are stored: plain types, or GGUF blocks of 32 or 256 elements. */
export type WeightType =
  | "F32"
  | "F16"
  | "BF16"
  | "Q4_0"
  | "Q4_1"
  | "Q5_0"
  | "Q5_1"
  | "Q8_0"
  | "Q4_K"
  | "Q5_K"
  | "Q6_K";

export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };
export type JsonObject = { readonly [key: string]: JsonValue };

/** One tensor of a checkpoint: a checked byte range of one file. */
export interface TensorEntry {
  readonly name: string;
  readonly type: WeightType;
  /** Outermost first, so the last one is contiguous (GGUF's `ne` reversed). */
  readonly shape: readonly number[];
  /** Index into `Checkpoint.files`. */
  readonly file: number;
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

/** GGUF metadata keeps numeric arrays as typed arrays; 64-bit integers that fit are numbers. */
export type GgufValue =
  | string
  | number
  | bigint
  | boolean
  | readonly string[]
  | readonly boolean[]
  | readonly bigint[]
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array;

/** What the files of one model say. Headers are read nowhere but in `engine/checkpoint`. */
export interface Checkpoint {
  /** Absolute paths, in the order that `TensorEntry.file` counts. */
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly source:
    | {
        readonly format: "safetensors";
        /** `config.json`. */
        readonly config: JsonObject;
        readonly generationConfig: JsonObject | undefined;
        /** `tokenizer.json`, unparsed. */
        readonly tokenizerJson: string;
        readonly tokenizerConfig: JsonObject | undefined;
        /** `chat_template.jinja`, else `tokenizer_config.json`'s. */
        readonly chatTemplate: string | undefined;
      }
    | {
        readonly format: "gguf";
        readonly metadata: ReadonlyMap<string, GgufValue>;
      };
}

/** Whole rows of one tensor, contiguous in one file. A vector is one row. */
export interface WeightSlice {
  readonly name: string;
  readonly type: WeightType;
  readonly rows: number;
  readonly columns: number;
  readonly file: number;
  readonly offset: number;
  readonly byteLength: number;
}

/** Matrices are `[outputs, inputs]`, as both formats store them. */
export interface LayerWeights {
  readonly attentionNorm: WeightSlice;
  readonly query: WeightSlice;
  readonly key: WeightSlice;
  readonly value: WeightSlice;
  readonly queryBias?: WeightSlice;
  readonly keyBias?: WeightSlice;
  readonly valueBias?: WeightSlice;
  /** RMS norm of each query head before RoPE, `[headDim]` (Qwen 3, Gemma 3). */
  readonly queryNorm?: WeightSlice;
  readonly keyNorm?: WeightSlice;
  readonly attentionOutput: WeightSlice;
  /** RMS norm of the attention's output before the residual add (Gemma 2 and 3). */
  readonly postAttentionNorm?: WeightSlice;
  readonly mlpNorm: WeightSlice;
  readonly gate: WeightSlice;
  readonly up: WeightSlice;
  readonly down: WeightSlice;
  readonly postMlpNorm?: WeightSlice;
}

export interface ModelWeights {
  readonly embedding: WeightSlice;
  readonly finalNorm: WeightSlice;
  /** Absent when the output matrix is the embedding (tied). */
  readonly lmHead?: WeightSlice;
  readonly layers: readonly LayerWeights[];
}

export interface Rope {
  /** `[rotated dimensions / 2]`, scaling (linear, llama3, longrope) already applied. */
  readonly inverseFrequencies: Float32Array;
  /** Factor on cosine and sine (longrope's attention factor), 1 for the others. */
  readonly magnitude: number;
}

export interface LayerSpec {
  /** Tokens a query sees, itself included; 0 sees all. */
  readonly window: number;
  /** Index into `ModelSpec.ropes`. */
  readonly rope: number;
}

export interface ModelSpec {
  /** Hugging Face's class name, such as `LlamaForCausalLM`. */
  readonly architecture: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly headCount: number;
  /** Divides `headCount`. */
  readonly kvHeadCount: number;
  readonly headDim: number;
  readonly ffnSize: number;
  /** Longest context that the checkpoint was made for, in tokens. */
  readonly contextLength: number;
  readonly normEpsilon: number;
  /** Added to every norm weight: 1 for Gemma's safetensors, else 0. */
  readonly normOffset: 0 | 1;
  readonly activation: "silu" | "gelu_tanh";
  /** Which elements RoPE pairs: `(i, i + n/2)`, or `(2i, 2i + 1)` in Llama GGUF files. */
  readonly ropeLayout: "halves" | "adjacent";
  readonly ropes: readonly Rope[];
  readonly layers: readonly LayerSpec[];
  /** Factor on embeddings (Gemma, Granite), 1 for the others. */
  readonly embeddingScale: number;
  /** Factor on query-key products, usually `headDim ** -0.5`. */
  readonly attentionScale: number;
  /** Factor on each block's output before the residual add (Granite). */
  readonly residualScale: number;
  /** Factor on logits (Granite divides), applied before the cap. */
  readonly logitScale: number;
  /** `cap * tanh(x / cap)` on scores and on logits (Gemma 2); 0 for none. */
  readonly attentionSoftcap: number;
  readonly logitSoftcap: number;
}

export interface Model {
  readonly spec: ModelSpec;
  readonly weights: ModelWeights;
  /** Absolute paths, in the order that `WeightSlice.file` counts. */
  readonly files: readonly string[];
}
