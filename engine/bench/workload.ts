/**
 * What a benchmark sends: requests with prompts and lengths, all from one seed, so that two servers
 * can be given the same ones.
 */

export interface BenchRequest {
  readonly id: number;
  /** Requests of one group are summarized together, such as the victims of an interference. */
  readonly group: string;
  readonly prompt: string;
  /** Words in the prompt: about its tokens, exactly so for most tokenizers. */
  readonly promptWords: number;
  readonly maxTokens: number;
  /** Sent at this time after the start, whatever else is in flight; unset follows the arrivals. */
  readonly atMs?: number;
}

export interface WorkloadOptions {
  readonly requestCount: number;
  readonly inputLength: number;
  readonly outputLength: number;
  readonly prefixCount: number;
  readonly prefixLength: number;
  readonly seed: number;
}

export const workloadNames = ["sharegpt", "random", "shared-prefix", "interference"] as const;
export type WorkloadName = (typeof workloadNames)[number];

// Short common words that byte-pair tokenizers keep whole, with the space before them.
const words =
  "time year people way day man thing woman life child world school state family student group country problem hand part place case week company system program question work government number night point home water room mother area money story fact month lot right study book eye job word business issue side kind head house service friend father power hour game line end member law car city community name president team minute idea body information back parent face others level office door health person art war history party result change morning reason research girl guy moment air teacher force education".split(
    " ",
  );

export function workload(name: WorkloadName, options: WorkloadOptions): BenchRequest[] {
  const random = seededRandom(options.seed);
  switch (name) {
    case "sharegpt":
      return shareGptLike(options, random);
    case "random":
      return fixedLengths(options, random);
    case "shared-prefix":
      return sharedPrefix(options, random);
    case "interference":
      return interference(options, random);
  }
}

/**
 * Truncated log-normals with the means of published ShareGPT samples (221 in, 186 out); prompt and
 * output together stay below 2,048 tokens.
 */
function shareGptLike({ requestCount }: WorkloadOptions, random: () => number): BenchRequest[] {
  return Array.from({ length: requestCount }, (_, id) => {
    const input = logNormal(random, 5.084, 1.5, 4, 1_024);
    const output = logNormal(random, 4.618, 1.2, 4, 2_048 - input);
    return aRequest(id, "sharegpt", text(input, random), input, output);
  });
}

function fixedLengths(options: WorkloadOptions, random: () => number): BenchRequest[] {
  const { requestCount, inputLength, outputLength } = options;
  return Array.from({ length: requestCount }, (_, id) =>
    aRequest(id, "random", text(inputLength, random), inputLength, outputLength),
  );
}

function sharedPrefix(options: WorkloadOptions, random: () => number): BenchRequest[] {
  const { prefixCount, prefixLength, inputLength, outputLength, requestCount } = options;
  const prefixes = Array.from({ length: prefixCount }, () => text(prefixLength, random));
  return Array.from({ length: requestCount }, (_, id) => {
    const prefix = prefixes[Math.floor(random() * prefixCount)] ?? "";
    const prompt = `${prefix} ${text(inputLength, random)}`;
    return aRequest(id, "shared-prefix", prompt, prefixLength + inputLength, outputLength);
  });
}

/** 32 streams that decode, and a long prompt every five seconds that wants their steps. */
function interference(options: WorkloadOptions, random: () => number): BenchRequest[] {
  const victims = Array.from({ length: 32 }, (_, id): BenchRequest => {
    return { ...aRequest(id, "victim", text(128, random), 128, options.outputLength), atMs: 0 };
  });
  const intruders = Array.from({ length: options.requestCount }, (_, i): BenchRequest => {
    const prompt = text(options.inputLength, random);
    const request = aRequest(32 + i, "intruder", prompt, options.inputLength, 16);
    return { ...request, atMs: 5_000 * (i + 1) };
  });
  return [...victims, ...intruders];
}

function aRequest(
  id: number,
  group: string,
  prompt: string,
  promptWords: number,
  maxTokens: number,
): BenchRequest {
  return { id, group, prompt, promptWords, maxTokens };
}

function text(length: number, random: () => number): string {
  return Array.from({ length }, () => words[Math.floor(random() * words.length)]).join(" ");
}

function logNormal(random: () => number, mu: number, sigma: number, min: number, max: number) {
  for (;;) {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const length = Math.round(Math.exp(mu + sigma * normal));
    if (length >= min && length <= max) return length;
  }
}

/** Mulberry32 (Tommy Ettinger, public domain). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Send times of an open loop, in milliseconds: gamma-distributed gaps (burstiness 1 is Poisson,
 * below it more bursty), rescaled so that all arrive within `count / rate` seconds.
 */
export function arrivalTimes(count: number, rate: number, burstiness: number, seed: number) {
  const random = seededRandom(seed ^ 0x9e3779b9);
  const gaps = Array.from({ length: count }, () => gamma(burstiness, random));
  const total = gaps.reduce((sum, gap) => sum + gap, 0);
  const scale = (1_000 * count) / rate / total;
  let at = 0;
  return gaps.map((gap) => {
    at += gap * scale;
    return at;
  });
}

/** Marsaglia and Tsang, "A simple method for generating gamma variables", 2000. */
function gamma(shape: number, random: () => number): number {
  if (shape < 1) return gamma(shape + 1, random) * (1 - random()) ** (1 / shape);
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const v = (1 + c * normal) ** 3;
    if (v <= 0) continue;
    const u = 1 - random();
    if (Math.log(u) < 0.5 * normal * normal + d - d * v + d * Math.log(v)) return d * v;
  }
}
