import assert from "node:assert/strict";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";

import { openCheckpoint } from "../checkpoint/checkpoint.ts";
import { tensorFloats } from "../checkpoint/tensor-floats.ts";
import { EngineError, type EngineErrorCode } from "../errors.ts";
import type { Checkpoint, GgufValue, JsonObject, TensorEntry } from "./model-spec.ts";
import { ReferenceForward } from "./reference-forward.ts";
import { buildModel } from "./registry.ts";

const fixtures = join(import.meta.dirname, "fixtures");
const names = readdirSync(fixtures).filter((name) =>
  existsSync(join(fixtures, name, "golden.json")),
);

interface GoldenCase {
  readonly id: string;
  readonly promptTokenIds: readonly number[];
  readonly maxModelLen?: number;
  readonly tokenIds: readonly number[];
  readonly rows: Readonly<Record<string, readonly number[]>>;
}

describe("buildModel on checkpoints that Transformers computed", () => {
  for (const path of names.flatMap((name) => [name, join(name, "model.gguf")])) {
    if (!existsSync(join(fixtures, path))) continue;
    it(`gives a spec that computes the same logits and tokens: ${path}`, async () => {
      const checkpoint = await openCheckpoint(join(fixtures, path));
      for (const golden of goldenCases(path)) assertSameComputation(checkpoint, golden);
    });
  }
});

describe("buildModel on config.json", () => {
  for (const { name, edit, code, says } of [
    {
      name: "an unknown architecture, listing the supported ones",
      edit: { architectures: ["MixtralForCausalLM"] },
      code: "MODEL_UNSUPPORTED",
      says: /MixtralForCausalLM.*LlamaForCausalLM.*Phi3ForCausalLM/,
    },
    {
      name: "quantised weights by their method",
      edit: { quantization_config: { quant_method: "awq", bits: 4 } },
      code: "MODEL_UNSUPPORTED",
      says: /awq.*bfloat16 checkpoint/,
    },
    {
      name: "a rope scaling that it does not compute",
      edit: { rope_scaling: { rope_type: "yarn", factor: 4 } },
      code: "MODEL_UNSUPPORTED",
      says: /"yarn".*llama3/,
    },
    {
      name: "biases that it does not add",
      edit: { attention_bias: true },
      code: "MODEL_UNSUPPORTED",
      says: /attention_bias/,
    },
    {
      name: "biases in the MLP",
      edit: { mlp_bias: true },
      code: "MODEL_UNSUPPORTED",
      says: /mlp_bias/,
    },
    {
      name: "another activation",
      edit: { hidden_act: "relu" },
      code: "MODEL_UNSUPPORTED",
      says: /relu.*silu/,
    },
    {
      name: "a value of the wrong type",
      edit: { num_hidden_layers: "three" },
      code: "CHECKPOINT_INVALID",
      says: /"num_hidden_layers" as "three"/,
    },
    {
      name: "a size that is not a positive integer",
      edit: { intermediate_size: 0 },
      code: "CHECKPOINT_INVALID",
      says: /"intermediate_size" as "0".*positive integer/,
    },
    {
      name: "a missing value",
      edit: { hidden_size: null },
      code: "CHECKPOINT_INVALID",
      says: /lacks "hidden_size"/,
    },
    {
      name: "heads that cannot be grouped",
      edit: { num_key_value_heads: 3 },
      code: "CHECKPOINT_INVALID",
      says: /4 heads cannot share 3/,
    },
    {
      name: "tensors of another shape",
      edit: { intermediate_size: 112 },
      code: "CHECKPOINT_INVALID",
      says: /gate_proj.weight has the shape \[96, 64\] where \[112, 64\] belongs/,
    },
    {
      name: "layers that the files do not have",
      edit: { num_hidden_layers: 4 },
      code: "CHECKPOINT_INVALID",
      says: /lacks the tensor model.layers.3.input_layernorm.weight/,
    },
    {
      name: "layers that the model would not use",
      edit: { num_hidden_layers: 2 },
      code: "MODEL_UNSUPPORTED",
      says: /9 tensors.*model.layers.2/,
    },
  ] as const) {
    it(`refuses ${name}`, async () => {
      const checkpoint = await fixture("llama2", edit);

      assert.throws(() => buildModel(checkpoint), refusal(code, says));
    });
  }

  it("refuses attention types that it does not compute", async () => {
    const layer_types = ["full_attention", "chunked_attention", "full_attention"];
    const checkpoint = await fixture("qwen2", { layer_types });

    assert.throws(() => buildModel(checkpoint), refusal("MODEL_UNSUPPORTED", /chunked_attention/));
  });

  it("refuses a list of layer types that is not as long as the layers", async () => {
    const checkpoint = await fixture("qwen2", { layer_types: ["full_attention"] });

    assert.throws(
      () => buildModel(checkpoint),
      refusal("CHECKPOINT_INVALID", /1 layer types for 3/),
    );
  });

  it("gives Qwen no window unless use_sliding_window says so", async () => {
    const { spec } = buildModel(await fixture("qwen2", { use_sliding_window: false }));

    assert.deepEqual(
      spec.layers.map(({ window }) => window),
      [0, 0, 0],
    );
  });

  it("refuses bidirectional Gemma", async () => {
    const checkpoint = await fixture("gemma3", { use_bidirectional_attention: true });

    assert.throws(() => buildModel(checkpoint), refusal("MODEL_UNSUPPORTED", /bidirectional/));
  });

  it("reads the ropes of Transformers 5 as those of Transformers 4", async () => {
    const before = buildModel(await fixture("gemma3"));
    const rope_parameters = {
      full_attention: { rope_type: "default", rope_theta: 2000 },
      sliding_attention: { rope_type: "default", rope_theta: 100 },
    };
    const after = buildModel(
      await fixture("gemma3", { rope_theta: null, rope_local_base_freq: null, rope_parameters }),
    );

    assert.deepEqual(after.spec, before.spec);
  });

  it("takes the model type where no class is named", async () => {
    const model = buildModel(await fixture("granite", { architectures: null }));

    assert.equal(model.spec.architecture, "GraniteForCausalLM");
  });

  it("ignores a stored output matrix when embeddings are tied", async () => {
    const checkpoint = await fixture("llama2", { tie_word_embeddings: true });

    assert.equal(buildModel(checkpoint).weights.lmHead, undefined);
  });

  it("asks for an output matrix when embeddings are not tied", async () => {
    const checkpoint = await fixture("qwen2", { tie_word_embeddings: false });

    assert.throws(() => buildModel(checkpoint), refusal("CHECKPOINT_INVALID", /lm_head.weight/));
  });

  it("cuts fused matrices into byte ranges that follow each other", async () => {
    const [layer] = buildModel(await fixture("phi3")).weights.layers;
    assert.ok(layer !== undefined);
    const { query, key, value, gate, up } = layer;

    assert.deepEqual([query.rows, key.rows, value.rows, gate.rows, up.rows], [64, 32, 32, 96, 96]);
    assert.equal(key.offset, query.offset + query.byteLength);
    assert.equal(value.offset, key.offset + key.byteLength);
    assert.equal(up.offset, gate.offset + gate.byteLength);
    assert.equal(query.byteLength, 64 * 64 * 2);
  });

  it("takes longrope's long factors once requests may pass the original context", async () => {
    const checkpoint = await fixture("phi3");
    const frequency = (maxModelLen: number) =>
      buildModel(checkpoint, { maxModelLen }).spec.ropes[0]?.inverseFrequencies[0];

    assert.equal(frequency(64), 1);
    assert.equal(frequency(65), Math.fround(1 / 1.1));
  });
});

describe("buildModel on GGUF metadata", () => {
  for (const { name, edit, says } of [
    {
      name: "an unknown architecture, listing the supported ones",
      edit: [["general.architecture", "mamba"]],
      says: /"mamba".*llama, qwen2, qwen3, granite, gemma2, gemma3, phi3/,
    },
    {
      name: "mixtures of experts",
      edit: [["llama.expert_count", 8]],
      says: /mixture of 8 experts/,
    },
    {
      name: "a rope scaling that it does not compute",
      edit: [["llama.rope.scaling.type", "yarn"]],
      says: /"yarn"/,
    },
    {
      name: "values of another size than keys",
      edit: [["llama.attention.value_length", 16]],
      says: /Keys of 32 and values of 16/,
    },
  ] as const) {
    it(`refuses ${name}`, async () => {
      const checkpoint = await ggufFixture("llama3", edit);

      assert.throws(() => buildModel(checkpoint), refusal("MODEL_UNSUPPORTED", says));
    });
  }

  it("refuses more tokens than embeddings", async () => {
    const tokens = Array.from({ length: 321 }, (_, id) => `t${id}`);
    const checkpoint = await ggufFixture("qwen3", [["tokenizer.ggml.tokens", tokens]]);

    assert.throws(
      () => buildModel(checkpoint),
      refusal("CHECKPOINT_INVALID", /321 tokens for 320/),
    );
  });

  it("leaves norms alone, which have Gemma's one already", async () => {
    const { spec } = buildModel(await ggufFixture("gemma3", []));

    assert.equal(spec.normOffset, 0);
  });

  it("gives every second layer of Gemma 2 a window, beginning with the first", async () => {
    const { spec } = buildModel(asGemma2(await ggufFixture("gemma3", [])));

    assert.deepEqual(
      spec.layers.map(({ window }) => window),
      [12, 0, 12, 0, 12, 0, 12],
    );
  });

  it("scales the scores of the largest Gemma 2 by its width per head", async () => {
    const gemma3 = await ggufFixture("gemma3", []);
    const scaleOf = (layerCount: number) => {
      const checkpoint = withLayers(gemma3, layerCount);
      return buildModel(checkpoint).spec.attentionScale;
    };

    assert.equal(scaleOf(7), 16 ** -0.5);
    assert.equal(scaleOf(62), 8 ** -0.5);
  });
});

function goldenCases(path: string): readonly GoldenCase[] {
  const folder = path.replace(/\/model\.gguf$/, "");
  return JSON.parse(readFileSync(join(fixtures, folder, "golden.json"), "utf8")).cases;
}

function assertSameComputation(checkpoint: Checkpoint, golden: GoldenCase): void {
  const { maxModelLen, promptTokenIds, tokenIds } = golden;
  const model = buildModel(checkpoint, {
    readFloats: (entry) => tensorFloats(checkpoint, entry),
    ...(maxModelLen === undefined ? {} : { maxModelLen }),
  });
  const reference = new ReferenceForward(model, (slice) => readBytes(model.files, slice));

  const logits = reference.logits([...promptTokenIds, ...tokenIds]);

  for (const [position, expected] of Object.entries(golden.rows)) {
    const row = logits[Number(position)] ?? new Float64Array();
    const worst = Math.max(...expected.map((value, i) => Math.abs(value - (row[i] ?? Number.NaN))));
    assert.ok(worst < 1e-3, `${golden.id}: logits at ${position} differ by ${worst}`);
  }
  const answered = logits.slice(promptTokenIds.length - 1, -1);
  const greedy = answered.map((row) => row.indexOf(Math.max(...row)));
  assert.deepEqual(greedy, tokenIds, golden.id);
}

function readBytes(
  files: readonly string[],
  { file, offset, byteLength }: Pick<TensorEntry, "file" | "offset" | "byteLength">,
): Uint8Array {
  const bytes = new Uint8Array(byteLength);
  const descriptor = openSync(files[file] ?? "", "r");
  readSync(descriptor, bytes, 0, byteLength, offset);
  closeSync(descriptor);
  return bytes;
}

/** A fixture whose config.json is edited; null removes a key. */
async function fixture(name: string, edit: JsonObject = {}): Promise<Checkpoint> {
  const checkpoint = await openCheckpoint(join(fixtures, name));
  assert.ok(checkpoint.source.format === "safetensors");
  const config = { ...checkpoint.source.config, ...edit };
  return { ...checkpoint, source: { ...checkpoint.source, config } };
}

async function ggufFixture(
  name: string,
  edit: readonly (readonly [string, GgufValue])[],
): Promise<Checkpoint> {
  const checkpoint = await openCheckpoint(join(fixtures, name, "model.gguf"));
  assert.ok(checkpoint.source.format === "gguf");
  const metadata = new Map([...checkpoint.source.metadata, ...edit]);
  return { ...checkpoint, source: { format: "gguf", metadata } };
}

/** Gemma 3's checkpoint as one of Gemma 2, which has no norms of queries and keys. */
function asGemma2(checkpoint: Checkpoint): Checkpoint {
  assert.ok(checkpoint.source.format === "gguf");
  const metadata = new Map<string, GgufValue>(
    [...checkpoint.source.metadata].map(([key, value]) => [
      key.replace("gemma3.", "gemma2."),
      value,
    ]),
  );
  metadata.set("general.architecture", "gemma2");
  const tensors = new Map([...checkpoint.tensors].filter(([name]) => !/attn_[qk]_norm/.test(name)));
  return { ...checkpoint, tensors, source: { format: "gguf", metadata } };
}

/** Gemma 3's checkpoint with the tensors of its first layer in every layer. */
function withLayers(checkpoint: Checkpoint, layerCount: number): Checkpoint {
  assert.ok(checkpoint.source.format === "gguf");
  const metadata = new Map([
    ...checkpoint.source.metadata,
    ["gemma3.block_count", layerCount] as const,
  ]);
  const entries = [...checkpoint.tensors.values()];
  const layer = entries.filter(({ name }) => name.startsWith("blk.0."));
  const rest = entries.filter(({ name }) => !name.startsWith("blk."));
  const copies = Array.from({ length: layerCount }, (_, index) =>
    layer.map((entry) => ({ ...entry, name: entry.name.replace("blk.0.", `blk.${index}.`) })),
  );
  const tensors = new Map([...rest, ...copies.flat()].map((entry) => [entry.name, entry]));
  return { ...checkpoint, tensors, source: { format: "gguf", metadata } };
}

function refusal(code: EngineErrorCode, says: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof EngineError, String(error));
    assert.equal(error.code, code);
    assert.match(`${error.message}. ${error.remedy}`, says);
    return true;
  };
}
