/** Arrivals by formula: a rate over time, Poisson in between, ShareGPT-like lengths. Seeded. */
import type { SimulatedRequest } from "./replica.ts";

export interface Trace {
  readonly name: string;
  readonly durationMs: number;
  /** Requests per second at a time in seconds. */
  readonly rate: (seconds: number) => number;
  /** Factor on prompt lengths: 1 is ShareGPT-like. */
  readonly promptFactor: number;
}

const halfHourMs = 30 * 60_000;

export const traces: readonly Trace[] = [
  {
    name: "ramp",
    durationMs: halfHourMs,
    rate: (s) => 2 + 28 * (s < 900 ? s / 900 : (1_800 - s) / 900),
    promptFactor: 1,
  },
  { name: "step x4", durationMs: halfHourMs, rate: (s) => (s < 600 ? 5 : 20), promptFactor: 1 },
  {
    name: "bursts",
    durationMs: halfHourMs,
    rate: (s) => (s % 300 >= 120 && s % 300 < 180 ? 20 : 4),
    promptFactor: 1,
  },
  {
    name: "diurnal",
    durationMs: halfHourMs,
    rate: (s) => 14 - 12 * Math.cos((2 * Math.PI * s) / 900),
    promptFactor: 1,
  },
  {
    name: "to zero and back",
    durationMs: halfHourMs,
    rate: (s) => (s < 500 || s >= 1_300 ? 12 : 0),
    promptFactor: 1,
  },
  {
    name: "long prompts",
    durationMs: halfHourMs,
    rate: (s) => (s < 600 ? 1 : s < 1_200 ? 4 : 2),
    promptFactor: 8,
  },
];

/** Mulberry32 (Tommy Ettinger, public domain): enough for arrivals, and the same everywhere. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function requestsOf(trace: Trace, seed: number): SimulatedRequest[] {
  const random = seededRandom(seed);
  const requests: SimulatedRequest[] = [];
  const peak = peakRate(trace);
  let seconds = 0;
  for (;;) {
    // Thinning (Lewis and Shedler, 1979): draw at the peak rate, keep by the rate of the moment.
    seconds += -Math.log(1 - random()) / peak;
    if (seconds * 1_000 >= trace.durationMs) return requests;
    if (random() * peak > trace.rate(seconds)) continue;
    requests.push({
      arrivedMs: seconds * 1_000,
      promptTokens: Math.round(trace.promptFactor * logNormal(random, 5.084, 1.5, 1_024)),
      outputTokens: logNormal(random, 4.618, 1.2, 1_024),
    });
  }
}

function peakRate(trace: Trace): number {
  let peak = 0;
  for (let s = 0; s < trace.durationMs / 1_000; s++) peak = Math.max(peak, trace.rate(s));
  return peak;
}

/** The truncated log-normals that meet the published means of ShareGPT samples. */
function logNormal(random: () => number, mu: number, sigma: number, most: number): number {
  for (;;) {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const length = Math.round(Math.exp(mu + sigma * normal));
    if (length >= 4 && length <= most) return length;
  }
}
