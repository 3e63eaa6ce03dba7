import type { TensorLayout } from "./decoder.ts";
import { invalid, unsupported } from "./fields.ts";
import type {
  Checkpoint,
  LayerWeights,
  ModelSpec,
  ModelWeights,
  TensorEntry,
  WeightSlice,
} from "./model-spec.ts";

/** What one format calls the tensors of a layer, after the layer's prefix. */
interface LayerNames {
  readonly attentionNorm: string;
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly fusedAttention: string;
  readonly queryNorm: string;
  readonly keyNorm: string;
  readonly attentionOutput: string;
  readonly postAttentionNorm: string;
  readonly mlpNorm: string;
  readonly gate: string;
  readonly up: string;
  readonly fusedGateUp: string;
  readonly down: string;
  readonly postMlpNorm: string;
}

interface NameScheme {
  readonly embedding: string;
  readonly finalNorm: string;
  readonly lmHead: string;
  readonly layerPrefix: (index: number) => string;
  readonly layer: LayerNames;
  /** Tensors that other parts read, or that repeat what the description says. */
  readonly ignored: RegExp;
}

const ggufNames: NameScheme = {
  embedding: "token_embd",
  finalNorm: "output_norm",
  lmHead: "output",
  layerPrefix: (index) => `blk.${index}.`,
  layer: {
    attentionNorm: "attn_norm",
    query: "attn_q",
    key: "attn_k",
    value: "attn_v",
    fusedAttention: "attn_qkv",
    queryNorm: "attn_q_norm",
    keyNorm: "attn_k_norm",
    attentionOutput: "attn_output",
    postAttentionNorm: "post_attention_norm",
    mlpNorm: "ffn_norm",
    gate: "ffn_gate",
    up: "ffn_up",
    fusedGateUp: "ffn_up",
    down: "ffn_down",
    postMlpNorm: "post_ffw_norm",
  },
  ignored: /^rope_(freqs|factors_long|factors_short)\.weight$/,
};

/** Gemma's name for the MLP's own norm differs, because it has one more norm before it. */
function safetensorsNames(layout: TensorLayout): NameScheme {
  return {
    embedding: "model.embed_tokens",
    finalNorm: "model.norm",
    lmHead: "lm_head",
    layerPrefix: (index) => `model.layers.${index}.`,
    layer: {
      attentionNorm: "input_layernorm",
      query: "self_attn.q_proj",
      key: "self_attn.k_proj",
      value: "self_attn.v_proj",
      fusedAttention: "self_attn.qkv_proj",
      queryNorm: "self_attn.q_norm",
      keyNorm: "self_attn.k_norm",
      attentionOutput: "self_attn.o_proj",
      postAttentionNorm: "post_attention_layernorm",
      mlpNorm: layout.postNorms ? "pre_feedforward_layernorm" : "post_attention_layernorm",
      gate: "mlp.gate_proj",
      up: "mlp.up_proj",
      fusedGateUp: "mlp.gate_up_proj",
      down: "mlp.down_proj",
      postMlpNorm: "post_feedforward_layernorm",
    },
    ignored: /\.rotary_emb\.inv_freq$/,
  };
}

/**
 * Finds every tensor that the spec asks for and checks its shape.
 *
 * @param tied whether the output matrix is the embedding; undefined decides by the files
 * @throws EngineError CHECKPOINT_INVALID for a missing or misshapen tensor, MODEL_UNSUPPORTED for
 *   one that this engine would not use
 */
export function bindWeights(
  checkpoint: Checkpoint,
  spec: ModelSpec,
  layout: TensorLayout,
  tied: boolean | undefined,
): ModelWeights {
  const names = checkpoint.source.format === "gguf" ? ggufNames : safetensorsNames(layout);
  const binder = new TensorBinder(checkpoint.tensors);
  const { vocabSize, hiddenSize } = spec;
  const lmHeadName = `${names.lmHead}.weight`;
  const isTied = tied ?? !checkpoint.tensors.has(lmHeadName);
  const weights: ModelWeights = {
    embedding: binder.matrix(`${names.embedding}.weight`, vocabSize, hiddenSize),
    finalNorm: binder.vector(`${names.finalNorm}.weight`, hiddenSize),
    ...(isTied ? {} : { lmHead: binder.matrix(lmHeadName, vocabSize, hiddenSize) }),
    layers: spec.layers.map((_, index) =>
      bindLayer(binder, spec, layout, names.layer, names.layerPrefix(index)),
    ),
  };
  binder.finish((name) => names.ignored.test(name) || (isTied && name === lmHeadName));
  return weights;
}

function bindLayer(
  binder: TensorBinder,
  spec: ModelSpec,
  layout: TensorLayout,
  names: LayerNames,
  prefix: string,
): LayerWeights {
  const { hiddenSize, headDim, ffnSize } = spec;
  const queryRows = spec.headCount * headDim;
  const norm = (name: string, size: number) => binder.vector(`${prefix}${name}.weight`, size);
  return {
    attentionNorm: norm(names.attentionNorm, hiddenSize),
    ...bindAttention(binder, spec, layout, names, prefix),
    ...(layout.queryKeyNorm && {
      queryNorm: norm(names.queryNorm, headDim),
      keyNorm: norm(names.keyNorm, headDim),
    }),
    attentionOutput: binder.matrix(
      `${prefix}${names.attentionOutput}.weight`,
      hiddenSize,
      queryRows,
    ),
    ...(layout.postNorms && {
      postAttentionNorm: norm(names.postAttentionNorm, hiddenSize),
      postMlpNorm: norm(names.postMlpNorm, hiddenSize),
    }),
    mlpNorm: norm(names.mlpNorm, hiddenSize),
    ...bindGateUp(binder, spec, layout, names, prefix),
    down: binder.matrix(`${prefix}${names.down}.weight`, hiddenSize, ffnSize),
  };
}

function bindAttention(
  binder: TensorBinder,
  { hiddenSize, headCount, kvHeadCount, headDim }: ModelSpec,
  layout: TensorLayout,
  names: LayerNames,
  prefix: string,
) {
  const queryRows = headCount * headDim;
  const kvRows = kvHeadCount * headDim;
  if (layout.fused) {
    const [query, key, value] = binder.rows(
      `${prefix}${names.fusedAttention}.weight`,
      [queryRows, kvRows, kvRows],
      hiddenSize,
    );
    return { query, key, value };
  }
  const matrix = (name: string, rows: number) =>
    binder.matrix(`${prefix}${name}.weight`, rows, hiddenSize);
  const bias = (name: string, size: number) => binder.vector(`${prefix}${name}.bias`, size);
  return {
    query: matrix(names.query, queryRows),
    key: matrix(names.key, kvRows),
    value: matrix(names.value, kvRows),
    ...(layout.attentionBias && {
      queryBias: bias(names.query, queryRows),
      keyBias: bias(names.key, kvRows),
      valueBias: bias(names.value, kvRows),
    }),
  };
}

function bindGateUp(
  binder: TensorBinder,
  { hiddenSize, ffnSize }: ModelSpec,
  layout: TensorLayout,
  names: LayerNames,
  prefix: string,
) {
  if (layout.fused) {
    const name = `${prefix}${names.fusedGateUp}.weight`;
    const [gate, up] = binder.rows(name, [ffnSize, ffnSize], hiddenSize);
    return { gate, up };
  }
  return {
    gate: binder.matrix(`${prefix}${names.gate}.weight`, ffnSize, hiddenSize),
    up: binder.matrix(`${prefix}${names.up}.weight`, ffnSize, hiddenSize),
  };
}

/** Takes tensors out of a checkpoint one by one and knows which were never asked for. */
class TensorBinder {
  readonly #tensors: ReadonlyMap<string, TensorEntry>;
  readonly #used = new Set<string>();

  constructor(tensors: ReadonlyMap<string, TensorEntry>) {
    this.#tensors = tensors;
  }

  vector(name: string, size: number): WeightSlice {
    return sliceRows(this.#take(name, [size]), 0, 1, size);
  }

  matrix(name: string, rows: number, columns: number): WeightSlice {
    return sliceRows(this.#take(name, [rows, columns]), 0, rows, columns);
  }

  /** Cuts one matrix into consecutive groups of rows. */
  rows<Counts extends readonly number[]>(
    name: string,
    counts: readonly [...Counts],
    columns: number,
  ): { [index in keyof Counts]: WeightSlice } {
    const total = counts.reduce((sum, count) => sum + count, 0);
    const entry = this.#take(name, [total, columns]);
    let first = 0;
    const slices = counts.map((count) => {
      const slice = sliceRows(entry, first, count, columns);
      first += count;
      return slice;
    });
    return slices as { [index in keyof Counts]: WeightSlice };
  }

  finish(isIgnored: (name: string) => boolean): void {
    const unused = [...this.#tensors.keys()].filter(
      (name) => !this.#used.has(name) && !isIgnored(name),
    );
    if (unused.length === 0) return;
    throw unsupported(
      `The checkpoint has ${unused.length} tensors that this architecture does not use, ` +
        `such as ${unused[0]}`,
      "Use a plain checkpoint of the model, without adapters or added modules.",
    );
  }

  #take(name: string, shape: readonly number[]): TensorEntry {
    const entry = this.#tensors.get(name);
    if (entry === undefined) throw invalid(`The checkpoint lacks the tensor ${name}`);
    if (entry.shape.join() !== shape.join()) {
      throw invalid(
        `The tensor ${name} has the shape [${entry.shape.join(", ")}] ` +
          `where [${shape.join(", ")}] belongs`,
      );
    }
    this.#used.add(name);
    return entry;
  }
}

/** A row of any type is a whole number of bytes, so a range of rows is a range of bytes. */
function sliceRows(entry: TensorEntry, first: number, rows: number, columns: number): WeightSlice {
  const totalRows = entry.shape.length === 1 ? 1 : (entry.shape[0] ?? 1);
  const rowBytes = entry.byteLength / totalRows;
  return {
    name: entry.name,
    type: entry.type,
    rows,
    columns,
    file: entry.file,
    offset: entry.offset + first * rowBytes,
    byteLength: rows * rowBytes,
  };
}
