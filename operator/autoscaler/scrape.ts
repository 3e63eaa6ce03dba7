import { engineMetrics } from "../../engine/contract.ts";
import type { ReplicaSample } from "./window.ts";

/**
 * Reads one engine's answer to `enginePaths.metrics` (Prometheus' text format).
 *
 * @returns `undefined` when a metric is missing: half a sample would look like an idle engine.
 */
export function readSample(pod: string, text: string, atMs: number): ReplicaSample | undefined {
  const values = valuesOf(text);
  const read = (name: keyof typeof engineMetrics) => values.get(engineMetrics[name]);
  const sample = {
    pod,
    atMs,
    kvTokensInUse: read("kvTokensInUse"),
    kvTokensTotal: read("kvTokensTotal"),
    runningRequests: read("runningRequests"),
    waitingRequests: read("waitingRequests"),
    waitingPromptTokens: read("waitingPromptTokens"),
    prefillTokensPerSecond: read("prefillTokensPerSecond"),
    decodeTokensPerSecond: read("decodeTokensPerSecond"),
  };
  return isComplete(sample) ? sample : undefined;
}

type Complete<T> = { readonly [K in keyof T]: Exclude<T[K], undefined> };

function isComplete<T extends object>(sample: T): sample is T & Complete<T> {
  return Object.values(sample).every((value) => value !== undefined && !Number.isNaN(value));
}

/** Sums of each metric over its labels. */
function valuesOf(text: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const [, name = "", value] of text.matchAll(/^([a-z_:]+)(?:\{[^\n]*\})? (\S+)/gm)) {
    values.set(name, (values.get(name) ?? 0) + Number(value));
  }
  return values;
}
