/**
 * How many replicas a service should have: a pure function of its settings, a window of samples and
 * the clock. The operator, `quire up` and the simulator run this same code.
 *
 * Demand is counted in tokens that must be resident in KV caches (after llm-d's token-based
 * saturation analyzer), so that long and short requests weigh what they cost. Supply counts replicas
 * that are still loading, so that one shortage is not answered twice.
 */
import type { ScalingDecision } from "../reconcile/scaling.ts";
import { type ReplicaSample, sum, type Window } from "./window.ts";

export interface ScalingSettings {
  readonly minReplicas: number;
  readonly maxReplicas: number;
  /** Hard limit of the platform's policy, above `minReplicas` too; `undefined` sets none. */
  readonly policyLimit: number | undefined;
  /** Fraction of a replica's KV cache that may be in use, in (0, 1]. */
  readonly kvCacheUtilization: number;
  /** Waiting requests from which on a replica counts as saturated. */
  readonly queueDepthPerReplica: number;
  /** Aim for the time to first token; `undefined` sets none. */
  readonly ttftMs: number | undefined;
  /** Aim for the time between tokens; `undefined` sets none. */
  readonly itlMs: number | undefined;
  /** Fractions of capacity: above the first add, below the second remove. */
  readonly scaleUpAt: number;
  readonly scaleDownAt: number;
  /** A replica without a sample younger than this is not known. */
  readonly staleAfterMs: number;
  readonly scaleUpStabilizationMs: number;
  /** Replicas after one step up are at most this factor of those before, and at least one more. */
  readonly scaleUpMaxFactor: number;
  readonly scaleDownStabilizationMs: number;
  readonly scaleDownMaxPods: number;
  readonly scaleDownPeriodMs: number;
}

/** What was decided before, kept in the service's status. */
export interface ScalingState {
  readonly desiredReplicas: number;
  readonly lastScaleDownMs: number | undefined;
  /** Most replicas that the cluster found room for, while it has none for more. */
  readonly capacityLimit: number | undefined;
  /** Time from creating a replica to its first answer, as last measured. */
  readonly loadMs: number | undefined;
}

interface Need {
  readonly replicas: number;
  readonly why: string;
}

// A trend is believed for at most this long, however slowly the model loads.
const maxForecastMs = 120_000;
// Samples that the trend is fitted to, and how many it takes at least.
const trendMs = 60_000;
const minTrendPoints = 10;
// Standard errors that a slope must exceed. Neighbouring samples share requests, so the fit's own
// error is too small by about this factor (simulated traces).
const slopeErrors = 4;
// Demand is averaged over this long: requests that come in a clump are not a change of load.
const smoothMs = 5_000;
// Load may come within this fraction of an aim after a replica is removed.
const safetyFraction = 0.9;

/** Decides; `state` is what the decision before left. */
export function decide(
  settings: ScalingSettings,
  window: Window,
  state: ScalingState,
  nowMs: number,
): ScalingDecision {
  const current = state.desiredReplicas;
  const latest = window.latest;
  const fresh = latest?.samples.filter((s) => nowMs - s.atMs <= settings.staleAfterMs) ?? [];
  if (latest === undefined || (latest.readyCount > 0 && fresh.length === 0)) {
    return bounded(settings, state, current, hold(current, settings.staleAfterMs), false);
  }
  if (latest.readyCount === 0) {
    const why = `${count(current)} held: none is ready yet, ${latest.pendingCount} loading`;
    return bounded(settings, state, current, why, true);
  }

  const capacity = capacityOf(settings, window, fresh);
  const up = neededUp(settings, window, state, fresh, capacity, nowMs);
  if (up.replicas > current) {
    const most = Math.max(current + 1, Math.floor(current * settings.scaleUpMaxFactor));
    return bounded(settings, state, Math.min(up.replicas, most), up.why, true);
  }
  if (fresh.length < latest.readyCount) {
    const why = `${count(current)} held: ${fresh.length} of ${latest.readyCount} replicas report`;
    return bounded(settings, state, current, why, true);
  }
  return stepDown(settings, window, state, fresh, capacity, up, nowMs);
}

/** Tokens that one replica can hold: the memory's limit, or less where it was seen saturated. */
function capacityOf(
  settings: ScalingSettings,
  window: Window,
  samples: readonly ReplicaSample[],
): number {
  const totals = samples.map((sample) => sample.kvTokensTotal).sort((a, b) => a - b);
  const median = totals[Math.floor(totals.length / 2)] ?? 0;
  const memory = settings.kvCacheUtilization * median;
  return Math.max(1, Math.min(memory, window.saturatedTokens ?? memory));
}

/** The largest of what memory, time to first token and time between tokens ask for. */
function neededUp(
  settings: ScalingSettings,
  window: Window,
  state: ScalingState,
  samples: readonly ReplicaSample[],
  capacity: number,
  nowMs: number,
): Need {
  const now = steadyDemand(window, settings.scaleUpStabilizationMs, nowMs);
  // A service that asks to wait before it grows does not grow ahead of its load either.
  const loadMs = settings.scaleUpStabilizationMs > 0 ? 0 : (state.loadMs ?? 0);
  const forecast = forecastDemand(window, loadMs, nowMs);
  const needs = [tokensNeed(now, forecast, capacity, settings.scaleUpAt)];
  if (settings.ttftMs !== undefined) needs.push(backlogNeed(samples, settings.ttftMs));
  if (settings.itlMs !== undefined) needs.push(itlNeed(samples, settings.itlMs));
  return needs.reduce((most, need) => (need.replicas > most.replicas ? need : most));
}

function tokensNeed(now: number, forecast: number, capacity: number, at: number): Need {
  const demand = Math.max(now, forecast);
  const replicas = Math.max(1, Math.ceil(demand / (at * capacity)));
  const ahead = demand > now ? ` (${round(now)} now)` : "";
  return {
    replicas,
    why: `demand ${round(demand)} tokens${ahead} / ${at} needs ${replicas} of ${round(capacity)}`,
  };
}

/** Waiting prompts must be computed within half of the aim, so that the other half may queue. */
function backlogNeed(samples: readonly ReplicaSample[], ttftMs: number): Need {
  const backlog = sum(samples, (sample) => sample.waitingPromptTokens);
  const rates = samples.map((s) => s.prefillTokensPerSecond).filter((rate) => rate > 0);
  if (backlog === 0 || rates.length === 0) return { replicas: 0, why: "" };
  const rate = rates.reduce((a, b) => a + b, 0) / rates.length;
  const replicas = Math.ceil(backlog / (rate * (ttftMs / 2_000)));
  return {
    replicas,
    why: `${round(backlog)} waiting prompt tokens at ${round(rate)}/s need ${replicas} for ${ttftMs} ms`,
  };
}

/** Rows of one replica share its decode rate, so the time between tokens is rows over rate. */
function itlNeed(samples: readonly ReplicaSample[], itlMs: number): Need {
  const worst = Math.max(0, ...samples.map(itlOf));
  if (worst <= itlMs) return { replicas: 0, why: "" };
  const replicas = Math.ceil((samples.length * worst) / itlMs);
  return { replicas, why: `${worst.toFixed(1)} ms between tokens, aim ${itlMs} ms` };
}

function itlOf(sample: ReplicaSample): number {
  // A single request is as fast as the engine is: more replicas cannot help it.
  if (sample.decodeTokensPerSecond === 0 || sample.runningRequests < 2) return 0;
  return (1_000 * sample.runningRequests) / sample.decodeTokensPerSecond;
}

/**
 * Least-squares line through the last samples, read at the time a new replica would be ready. Noise
 * looks like a rise half of the time, so the slope counts only by what it exceeds its error.
 */
function forecastDemand(window: Window, loadMs: number, nowMs: number): number {
  const points = window.demand.filter((point) => nowMs - point.atMs <= trendMs);
  if (loadMs <= 0 || points.length < minTrendPoints) return 0;
  const meanAt = sum(points, (p) => p.atMs) / points.length;
  const mean = sum(points, (p) => p.tokens) / points.length;
  const spread = sum(points, (p) => (p.atMs - meanAt) ** 2);
  const slope = sum(points, (p) => (p.atMs - meanAt) * (p.tokens - mean)) / spread;
  const residual = sum(points, (p) => (p.tokens - mean - slope * (p.atMs - meanAt)) ** 2);
  const error = Math.sqrt(residual / (points.length - 2) / spread);
  const rise = slope - slopeErrors * error;
  return rise <= 0 ? 0 : mean + rise * (nowMs - meanAt + Math.min(loadMs, maxForecastMs));
}

/** The demand that held through the whole stabilization window: its lowest. */
function steadyDemand(window: Window, stabilizationMs: number, nowMs: number): number {
  const recent = window.demand.filter((point) => nowMs - point.atMs < smoothMs);
  const now = sum(recent, (point) => point.tokens) / Math.max(1, recent.length);
  if (stabilizationMs === 0) return now;
  const oldest = window.demand[0];
  if (oldest === undefined || nowMs - oldest.atMs < stabilizationMs) return 0;
  return window.demand
    .filter((point) => nowMs - point.atMs <= stabilizationMs)
    .reduce((least, point) => Math.min(least, point.tokens), now);
}

function stepDown(
  settings: ScalingSettings,
  window: Window,
  state: ScalingState,
  samples: readonly ReplicaSample[],
  capacity: number,
  up: Need,
  nowMs: number,
): ScalingDecision {
  const current = state.desiredReplicas;
  const floor = Math.max(settings.minReplicas, current - settings.scaleDownMaxPods);
  const lowest = lowestAllowed(settings, window, samples, capacity, nowMs);
  const target = Math.max(floor, lowest.replicas);
  if (target >= current) {
    const why = current <= settings.minReplicas ? up.why : lowest.why;
    return bounded(settings, state, current, why, true);
  }
  const waitMs = (state.lastScaleDownMs ?? -Infinity) + settings.scaleDownPeriodMs - nowMs;
  if (waitMs > 0) {
    const why = `${lowest.why}; next step down in ${Math.ceil(waitMs / 1_000)} s`;
    return bounded(settings, state, current, why, true);
  }
  return bounded(settings, state, target, lowest.why, true);
}

/**
 * The fewest replicas that would have carried the highest demand of the whole window at
 * `scaleDownAt`, and that would keep the aims with the load of n replicas on n - 1.
 */
function lowestAllowed(
  settings: ScalingSettings,
  window: Window,
  samples: readonly ReplicaSample[],
  capacity: number,
  nowMs: number,
): Need {
  const { scaleDownStabilizationMs: stabilizationMs, scaleDownAt } = settings;
  const oldest = window.demand[0];
  const seconds = stabilizationMs / 1_000;
  if (oldest === undefined || nowMs - oldest.atMs < stabilizationMs) {
    return { replicas: Infinity, why: `watched for less than ${seconds} s` };
  }
  const peak = window.demand
    .filter((point) => nowMs - point.atMs <= stabilizationMs)
    .reduce((most, point) => Math.max(most, point.tokens), 0);
  const replicas = Math.max(1, Math.ceil(peak / (scaleDownAt * capacity)));
  const load = samples.length / Math.max(1, samples.length - 1);
  const worstItl = Math.max(0, ...samples.map(itlOf)) * load;
  if (settings.itlMs !== undefined && worstItl > safetyFraction * settings.itlMs) {
    return {
      replicas: Infinity,
      why: `one fewer would take ${worstItl.toFixed(1)} ms between tokens, aim ${settings.itlMs} ms`,
    };
  }
  return {
    replicas,
    why: `highest demand of ${seconds} s, ${round(peak)} tokens / ${scaleDownAt}, needs ${replicas} of ${round(capacity)}`,
  };
}

function bounded(
  settings: ScalingSettings,
  state: ScalingState,
  wanted: number,
  why: string,
  fresh: boolean,
): ScalingDecision {
  const bounds: readonly [ScalingDecision["boundBy"], number | undefined, string][] = [
    ["MaxReplicas", settings.maxReplicas, "maxReplicas allows"],
    ["Policy", settings.policyLimit, "the policy allows"],
    ["Capacity", state.capacityLimit, "the cluster has room for"],
  ];
  let desiredReplicas = Math.max(wanted, settings.minReplicas);
  let boundBy: ScalingDecision["boundBy"] = desiredReplicas > wanted ? "MinReplicas" : "None";
  let reason = boundBy === "None" ? why : `${why}; minReplicas asks for ${desiredReplicas}`;
  for (const [bound, limit, words] of bounds) {
    if (limit === undefined || desiredReplicas <= limit) continue;
    desiredReplicas = limit;
    boundBy = bound;
    reason = `${why}; ${words} ${limit}`;
  }
  return { desiredReplicas, boundBy, reason, fresh };
}

function hold(current: number, staleAfterMs: number): string {
  return `${count(current)} held: no replica reported in the last ${staleAfterMs / 1_000} s`;
}

function count(replicas: number): string {
  return `${replicas} replica${replicas === 1 ? "" : "s"}`;
}

function round(tokens: number): string {
  return tokens >= 10_000 ? `${Math.round(tokens / 1_000)}k` : String(Math.round(tokens));
}
