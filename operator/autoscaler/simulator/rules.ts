/**
 * The rules that are compared: ours, and the published formulas of other autoscalers with their
 * default constants. A rule keeps its own memory; each call is one second later than the last.
 */
import { decide, type ScalingSettings } from "../policy.ts";
import { type Observation, type ReplicaSample, sum, Window } from "../window.ts";
import type { ScalingRule } from "./simulate.ts";

/** What an administrator would tell every rule about this engine. */
export interface EngineFacts {
  readonly maxRows: number;
  readonly maxReplicas: number;
  readonly ttftAimMs: number;
  readonly loadMs: number;
}

export function allRules(facts: EngineFacts): ScalingRule[] {
  return [
    quire("quire", facts, { windowMs: 60_000, maxPods: 4, periodMs: 15_000 }),
    // What a service gets that sets nothing: slow to shrink, as Kubernetes' own default is.
    quire("quire, defaults", facts, { windowMs: 300_000, maxPods: 1, periodMs: 60_000 }),
    hpaOnQueue(),
    knative(facts),
    aibrixApa(facts),
    kubeai(facts),
    saturationV1(),
    saturationV2(),
    dynamoLoad(facts),
  ];
}

interface ScaleDown {
  readonly windowMs: number;
  readonly maxPods: number;
  readonly periodMs: number;
}

function quire(name: string, facts: EngineFacts, scaleDown: ScaleDown): ScalingRule {
  const settings: ScalingSettings = {
    minReplicas: 1,
    maxReplicas: facts.maxReplicas,
    policyLimit: undefined,
    kvCacheUtilization: 0.8,
    queueDepthPerReplica: 4,
    ttftMs: facts.ttftAimMs,
    itlMs: undefined,
    scaleUpAt: 0.85,
    scaleDownAt: 0.7,
    staleAfterMs: 5_000,
    scaleUpStabilizationMs: 0,
    scaleUpMaxFactor: 4,
    scaleDownStabilizationMs: scaleDown.windowMs,
    scaleDownMaxPods: scaleDown.maxPods,
    scaleDownPeriodMs: scaleDown.periodMs,
  };
  const window = new Window();
  let lastScaleDownMs: number | undefined;
  return {
    name,
    next(observation, desiredReplicas) {
      window.add(observation, settings.queueDepthPerReplica);
      const state = {
        desiredReplicas,
        lastScaleDownMs,
        capacityLimit: undefined,
        loadMs: facts.loadMs,
      };
      const decision = decide(settings, window, state, observation.atMs);
      if (decision.desiredReplicas < desiredReplicas) lastScaleDownMs = observation.atMs;
      return decision.desiredReplicas;
    },
  };
}

/** Kubernetes HPA on waiting requests per replica: 15 s, 10 % tolerance, 300 s before shrinking. */
function hpaOnQueue(): ScalingRule {
  const recommendations = new Recent(300_000);
  return {
    name: "HPA on queue",
    next({ atMs, samples, readyCount }, desired) {
      if (atMs % 15_000 !== 0 || readyCount === 0) return desired;
      const ratio = waiting(samples) / readyCount / 4;
      const wanted = Math.abs(ratio - 1) <= 0.1 ? desired : Math.ceil(readyCount * ratio);
      recommendations.add(atMs, Math.max(1, wanted));
      const most = Math.max(2 * desired, desired + 4);
      return Math.min(most, wanted > desired ? wanted : recommendations.max());
    },
  };
}

/** Knative's pod autoscaler on concurrency: 70 % of the rows, 60 s stable, 6 s panic windows. */
function knative({ maxRows }: EngineFacts): ScalingRule {
  const target = 0.7 * maxRows;
  const stable = new Recent(60_000);
  const panic = new Recent(6_000);
  let panicUntilMs = 0;
  let panicMost = 0;
  return {
    name: "Knative KPA",
    next({ atMs, samples, readyCount }, desired) {
      stable.add(atMs, active(samples));
      panic.add(atMs, active(samples));
      if (atMs % 2_000 !== 0 || readyCount === 0) return desired;
      const clamp = (n: number) => Math.max(Math.floor(readyCount / 2), Math.ceil(n));
      const wantStable = clamp(stable.mean() / target);
      const wantPanic = clamp(panic.mean() / target);
      if (wantPanic / readyCount >= 2) panicUntilMs = atMs + 60_000;
      if (atMs >= panicUntilMs) {
        panicMost = 0;
        return wantStable;
      }
      panicMost = Math.max(panicMost, wantPanic, desired);
      return panicMost;
    },
  };
}

/** AIBrix's APA on concurrency: a band of 10 %, at most double, at least half. */
function aibrixApa({ maxRows }: EngineFacts): ScalingRule {
  const use = new Recent(60_000);
  return {
    name: "AIBrix APA",
    next({ atMs, samples, readyCount }, desired) {
      use.add(atMs, active(samples) / Math.max(1, readyCount));
      if (atMs % 10_000 !== 0 || readyCount === 0) return desired;
      const ratio = use.mean() / (0.7 * maxRows);
      if (ratio > 1.1) return Math.min(Math.ceil(desired * ratio), 2 * desired);
      if (ratio < 0.9) return Math.max(Math.ceil(desired * ratio), Math.floor(desired / 2));
      return desired;
    },
  };
}

/** KubeAI: ten-minute mean of active requests over a target, three low ticks before shrinking. */
function kubeai({ maxRows }: EngineFacts): ScalingRule {
  const mean = new Recent(600_000);
  let lowTicks = 0;
  return {
    name: "KubeAI mean",
    next({ atMs, samples }, desired) {
      if (atMs % 10_000 !== 0) return desired;
      mean.add(atMs, active(samples));
      const wanted = Math.max(1, Math.ceil(mean.mean() / maxRows));
      lowTicks = wanted < desired ? lowTicks + 1 : 0;
      return wanted > desired || lowTicks > 3 ? wanted : desired;
    },
  };
}

/** llm-d's first saturation analyzer: spare KV and queue of replicas that are not saturated. */
function saturationV1(): ScalingRule {
  const spares = (samples: readonly ReplicaSample[], load: number) => {
    const kv = samples.map((s) => 0.8 - (load * s.kvTokensInUse) / s.kvTokensTotal);
    const queue = samples.map((s) => 5 - load * s.waitingRequests);
    return { kv: mean(kv), queue: mean(queue) };
  };
  const tight = (spare: { kv: number; queue: number }) => spare.kv < 0.1 || spare.queue < 3;
  return {
    name: "llm-d WVA V1",
    next({ atMs, samples, pendingCount }, desired) {
      if (atMs % 30_000 !== 0 || pendingCount > 0) return desired;
      const open = samples.filter(
        (s) => s.kvTokensInUse < 0.8 * s.kvTokensTotal && s.waitingRequests < 5,
      );
      if (open.length === 0 || tight(spares(open, 1))) return desired + 1;
      if (open.length < 2) return desired;
      return tight(spares(open, open.length / (open.length - 1))) ? desired : desired - 1;
    },
  };
}

/** llm-d's token-based analyzer: demand in tokens, learned capacity, 0.85 up and 0.70 down. */
function saturationV2(): ScalingRule {
  const observed: number[] = [];
  return {
    name: "llm-d WVA V2",
    next({ atMs, samples, readyCount, pendingCount }, desired) {
      if (atMs % 30_000 !== 0 || samples.length === 0) return desired;
      observed.push(...samples.filter((s) => s.waitingRequests >= 5).map((s) => s.kvTokensInUse));
      observed.splice(0, Math.max(0, observed.length - 10));
      const memory = 0.8 * (samples[0]?.kvTokensTotal ?? 0);
      const capacity = observed.length > 0 ? Math.min(memory, mean(observed)) : memory;
      const inUse = sum(samples, (sample) => sample.kvTokensInUse);
      const demand = inUse + sum(samples, (sample) => sample.waitingPromptTokens);
      const required = demand / 0.85 - (readyCount + pendingCount) * capacity;
      const spare = readyCount * capacity - demand / 0.7;
      if (required > 0) return desired + Math.ceil(required / capacity);
      return spare > 0 ? desired - Math.floor(spare / capacity) : desired;
    },
  };
}

/** Dynamo's load loop: one up when every engine misses the aim, one down when all have room. */
function dynamoLoad({ ttftAimMs }: EngineFacts): ScalingRule {
  return {
    name: "Dynamo load",
    next({ atMs, samples, pendingCount }, desired) {
      if (atMs % 5_000 !== 0 || samples.length === 0 || pendingCount > 0) return desired;
      const waits = samples.map((sample) => {
        const rate = sample.prefillTokensPerSecond;
        const prefillMs = rate > 0 ? (1_000 * sample.waitingPromptTokens) / rate : 0;
        // Rows are full: the queue moves as fast as running requests end.
        return sample.waitingRequests > 0 ? ttftAimMs + prefillMs : prefillMs;
      });
      if (waits.every((wait) => wait > ttftAimMs)) return desired + 1;
      const load = samples.length / Math.max(1, samples.length - 1);
      return waits.every((wait) => load * wait < 0.8 * ttftAimMs) ? desired - 1 : desired;
    },
  };
}

class Recent {
  readonly #entries: { atMs: number; value: number }[] = [];
  readonly #keptMs: number;

  constructor(keptMs: number) {
    this.#keptMs = keptMs;
  }

  add(atMs: number, value: number): void {
    this.#entries.push({ atMs, value });
    while ((this.#entries[0]?.atMs ?? atMs) <= atMs - this.#keptMs) this.#entries.shift();
  }

  mean(): number {
    return mean(this.#entries.map((entry) => entry.value));
  }

  max(): number {
    return Math.max(...this.#entries.map((entry) => entry.value));
  }
}

function mean(values: readonly number[]): number {
  return sum(values, (value) => value) / Math.max(1, values.length);
}

function waiting(samples: Observation["samples"]): number {
  return sum(samples, (sample) => sample.waitingRequests);
}

function active(samples: Observation["samples"]): number {
  return sum(samples, (sample) => sample.waitingRequests + sample.runningRequests);
}
