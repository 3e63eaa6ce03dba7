/** A model for benchmarks: what its file says, and what a step must read and compute of it. */
import { openCheckpoint } from "../checkpoint/checkpoint.ts";
import { tensorFloats } from "../checkpoint/tensor-floats.ts";
import type { Model, WeightSlice } from "../models/model-spec.ts";
import { buildModel } from "../models/registry.ts";

export async function openModelFile(path: string): Promise<Model> {
  const checkpoint = await openCheckpoint(path);
  return buildModel(checkpoint, { readFloats: (entry) => tensorFloats(checkpoint, entry) });
}

/** Weights of the layers' matrices, all of which every token goes through. */
export function layerWeightCount({ weights }: Model): number {
  return weights.layers.flatMap(matricesOf).reduce((sum, m) => sum + m.rows * m.columns, 0);
}

/** Bytes of weights that a decode step reads, as the file stores them: not an untied embedding. */
export function stepWeightBytes({ weights }: Model): number {
  const matrices = [...weights.layers.flatMap(matricesOf), weights.lmHead ?? weights.embedding];
  return matrices.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

function matricesOf(layer: Model["weights"]["layers"][number]): readonly WeightSlice[] {
  return Object.values(layer).filter(({ rows }) => rows > 1);
}
