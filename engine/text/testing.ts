import assert from "node:assert/strict";

import { EngineError, type EngineErrorCode } from "../errors.ts";
import type { Checkpoint, GgufValue, JsonObject } from "../models/model-spec.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** Builders of checkpoints that have nothing but text, for tests. */

export type MetadataEntry = readonly [key: string, value: GgufValue];

export function aGguf(entries: readonly MetadataEntry[]): Checkpoint {
  return { files: [], tensors: new Map(), source: { format: "gguf", metadata: new Map(entries) } };
}

export function aFolder(parts: {
  readonly tokenizerJson?: string;
  readonly tokenizerConfig?: JsonObject;
  readonly chatTemplate?: string;
}): Checkpoint {
  return {
    files: [],
    tensors: new Map(),
    source: {
      format: "safetensors",
      config: {},
      generationConfig: undefined,
      tokenizerJson: parts.tokenizerJson ?? "{}",
      tokenizerConfig: parts.tokenizerConfig,
      chatTemplate: parts.chatTemplate,
    },
  };
}

/** A text's tokens as the vocabulary writes them; control tokens in it are ordinary text. */
export async function tokenTextsOf(
  tokenizer: Tokenizer,
  text: string,
): Promise<(string | undefined)[]> {
  const ids = await tokenizer.encode(text, { addSpecial: false, parseSpecial: false });
  return [...ids].map((id) => tokenizer.pieces.text(id));
}

/** For `assert.throws`: an error with this code, and with this in its message or remedy. */
export function refusal(
  code: EngineErrorCode,
  says: RegExp,
  param?: string,
): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof EngineError, String(error));
    assert.equal(error.code, code);
    assert.match(`${error.message}. ${error.remedy}`, says);
    assert.equal(error.param, param);
    return true;
  };
}
