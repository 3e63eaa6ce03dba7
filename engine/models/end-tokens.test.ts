import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { EngineError } from "../errors.ts";
import { endTokenIds } from "./end-tokens.ts";
import { generationDefaults } from "./generation-defaults.ts";
import type { Checkpoint, GgufValue, JsonObject } from "./model-spec.ts";

const tokenId = (text: string) => (text === "<|im_end|>" ? 7 : undefined);

describe("endTokenIds", () => {
  it("joins what config.json and generation_config.json name, once each and in order", () => {
    const checkpoint = folder({
      config: { eos_token_id: 5 },
      generationConfig: { eos_token_id: [9, 5, 2] },
    });

    assert.deepEqual(endTokenIds(checkpoint), [2, 5, 9]);
  });

  it("adds the tokenizer's own end token, written as text or as an object", () => {
    for (const eos_token of ["<|im_end|>", { content: "<|im_end|>" }]) {
      const checkpoint = folder({ config: { eos_token_id: 2 }, tokenizerConfig: { eos_token } });

      assert.deepEqual(endTokenIds(checkpoint, tokenId), [2, 7]);
    }
  });

  it("names none for a folder that names none", () => {
    assert.deepEqual(endTokenIds(folder({ config: { eos_token_id: null } })), []);
  });

  it("refuses an id that is no token", () => {
    const checkpoint = folder({ config: { eos_token_id: [1, -1] } });

    assert.throws(
      () => endTokenIds(checkpoint),
      (error) => error instanceof EngineError && error.code === "CHECKPOINT_INVALID",
    );
  });

  it("finds a GGUF file's named ends and its control tokens that end turns", () => {
    const checkpoint = gguf([
      ["tokenizer.ggml.eos_token_id", 0],
      ["tokenizer.ggml.eot_token_id", 1],
      ["tokenizer.ggml.tokens", ["</s>", "<turn>", "<|im_end|>", "<|eot_id|>", "<|im_start|>"]],
      ["tokenizer.ggml.token_type", Int32Array.of(3, 3, 3, 1, 3)],
    ]);

    assert.deepEqual(endTokenIds(checkpoint), [0, 1, 2]);
  });
});

describe("generationDefaults", () => {
  it("reads generation_config.json, and -1 for top_k as off", () => {
    const generationConfig = {
      temperature: 0.6,
      top_p: 0.9,
      top_k: -1,
      min_p: 0.05,
      repetition_penalty: 1.1,
    };

    assert.deepEqual(generationDefaults(folder({ generationConfig })), {
      temperature: 0.6,
      topP: 0.9,
      topK: 0,
      minP: 0.05,
      repetitionPenalty: 1.1,
    });
  });

  it("leaves away what the checkpoint does not say", () => {
    assert.deepEqual(generationDefaults(folder({})), {});
    assert.deepEqual(generationDefaults(folder({ generationConfig: { top_k: 20 } })), { topK: 20 });
  });

  it("reads the sampling keys of GGUF", () => {
    const checkpoint = gguf([
      ["general.sampling.temp", 0.7],
      ["general.sampling.penalty_repeat", 1.05],
    ]);

    assert.deepEqual(generationDefaults(checkpoint), { temperature: 0.7, repetitionPenalty: 1.05 });
  });
});

function folder(parts: {
  readonly config?: JsonObject;
  readonly generationConfig?: JsonObject;
  readonly tokenizerConfig?: JsonObject;
}): Checkpoint {
  return {
    files: [],
    tensors: new Map(),
    source: {
      format: "safetensors",
      config: parts.config ?? {},
      generationConfig: parts.generationConfig,
      tokenizerJson: "{}",
      tokenizerConfig: parts.tokenizerConfig,
      chatTemplate: undefined,
    },
  };
}

function gguf(entries: readonly (readonly [string, GgufValue])[]): Checkpoint {
  return { files: [], tensors: new Map(), source: { format: "gguf", metadata: new Map(entries) } };
}
