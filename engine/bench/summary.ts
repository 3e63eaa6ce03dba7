/**
 * From request records to figures, by the definitions of vLLM's serving benchmark: TTFT from sending
 * to the first event with a token, ITL the gaps between such events pooled over all requests, TPOT
 * (latency - TTFT) / (tokens - 1) of each request, wall time from the first sending to the last end.
 */
import type { RequestRecord } from "./client.ts";

export interface Distribution {
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

export interface GoodputLimits {
  readonly ttftMs: number;
  readonly tpotMs: number;
}

export interface Summary {
  readonly completed: number;
  readonly failed: number;
  readonly wallSeconds: number;
  readonly requestsPerSecond: number;
  readonly outputTokensPerSecond: number;
  readonly totalTokensPerSecond: number;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  /** Tokens that came in one event, on average: above 1, ITL flatters the server. */
  readonly tokensPerEvent: number;
  readonly ttftMs: Distribution;
  readonly itlMs: Distribution;
  readonly tpotMs: Distribution;
  readonly latencyMs: Distribution;
  /** Fraction of all requests within both limits; `undefined` without limits. */
  readonly goodput: number | undefined;
  /** Requests whose answer had another length than was asked for. */
  readonly wrongLength: number;
}

export function summarize(
  records: readonly RequestRecord[],
  limits: GoodputLimits | undefined,
): Summary {
  const good = records.filter((record) => record.error === undefined);
  const firstMs = Math.min(...records.map((record) => record.sentMs));
  const lastMs = Math.max(...records.map((record) => record.doneMs));
  const wallSeconds = records.length === 0 ? 0 : (lastMs - firstMs) / 1_000;
  const promptTokens = total(good, (record) => record.promptTokens);
  const outputTokens = total(good, (record) => record.outputTokens);
  const eventCount = total(good, (record) => record.eventMs.length);
  return {
    completed: good.length,
    failed: records.length - good.length,
    wallSeconds,
    requestsPerSecond: ratio(good.length, wallSeconds),
    outputTokensPerSecond: ratio(outputTokens, wallSeconds),
    totalTokensPerSecond: ratio(promptTokens + outputTokens, wallSeconds),
    promptTokens,
    cachedTokens: total(good, (record) => record.cachedTokens),
    outputTokens,
    tokensPerEvent: ratio(outputTokens, eventCount),
    ttftMs: distribution(good.flatMap(ttftOf)),
    itlMs: distribution(good.flatMap(gapsOf)),
    tpotMs: distribution(good.flatMap(tpotOf)),
    latencyMs: distribution(good.map((record) => record.doneMs - record.sentMs)),
    goodput: limits === undefined ? undefined : goodputOf(records, good, limits),
    wrongLength: good.filter((record) => record.outputTokens !== record.requestedTokens).length,
  };
}

/** One value, or none for a request that answered without text. */
export function ttftOf({ eventMs, sentMs }: RequestRecord): number[] {
  return eventMs[0] === undefined ? [] : [eventMs[0] - sentMs];
}

export function gapsOf({ eventMs }: RequestRecord): number[] {
  return eventMs.slice(1).map((at, index) => at - (eventMs[index] ?? at));
}

function tpotOf(record: RequestRecord): number[] {
  const [ttft] = ttftOf(record);
  if (ttft === undefined || record.outputTokens < 2) return [];
  return [(record.doneMs - record.sentMs - ttft) / (record.outputTokens - 1)];
}

function goodputOf(
  all: readonly RequestRecord[],
  good: readonly RequestRecord[],
  { ttftMs, tpotMs }: GoodputLimits,
): number {
  const within = good.filter((record) => {
    const [ttft = Number.POSITIVE_INFINITY] = ttftOf(record);
    const [tpot = 0] = tpotOf(record);
    return ttft <= ttftMs && tpot <= tpotMs;
  });
  return ratio(within.length, all.length);
}

/** Percentiles by linear interpolation between neighbours, as numpy's default; 0 of nothing. */
export function distribution(values: readonly number[]): Distribution {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (fraction: number): number => {
    const position = fraction * Math.max(0, sorted.length - 1);
    const low = sorted[Math.floor(position)] ?? 0;
    const high = sorted[Math.ceil(position)] ?? low;
    return low + (high - low) * (position % 1);
  };
  return {
    mean: ratio(
      sorted.reduce((sum, value) => sum + value, 0),
      sorted.length,
    ),
    p50: at(0.5),
    p90: at(0.9),
    p95: at(0.95),
    p99: at(0.99),
    max: at(1),
  };
}

function total<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((sum, item) => sum + value(item), 0);
}

function ratio(numerator: number, denominator: number): number {
  return denominator === 0 ? 0 : numerator / denominator;
}
