/**
 * How near the device comes to its ceilings, without scheduler and HTTP:
 *
 *     node engine/bench/device-bench.ts [--model PATH | --random 500m] [--threads N] [--json FILE]
 *
 * Prints, for decodes of 1 to 16 requests behind 128 and 1024 tokens, tokens per second and the
 * bytes of weights read as a share of the read bandwidth that `cpu_kernels` measures in the same
 * run, and for prefills of 512 and 2048 tokens the operations of the layers' matrices as a share of
 * the rate of its multiplication in cache. Every figure is the best of several rounds, in which all
 * batches take turns: other work on the machine only slows a round down. With one thread, times are
 * of the processor and not of the clock, ceilings included: a machine that others use too disturbs
 * them little.
 */
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { Command, InvalidArgumentError, Option } from "commander";
import type { DeviceOptions } from "../device.ts";
import type { Model } from "../models/model-spec.ts";
import { loadDeviceDriver } from "../native/load.ts";
import { best, type Ceilings, describeMachine, measureCeilings } from "./machine.ts";
import { layerWeightCount, openModelFile, stepWeightBytes } from "./model-file.ts";
import { random500mDescription, random500mFile } from "./random-model.ts";
import { type StepTime, StepTiming } from "./step-timing.ts";

const batches = [1, 2, 4, 8, 16];
const contexts = [128, 1024];
const prompts = [512, 2048];
const blockSize = 64;
const maxRows = 16;
const decodeRounds = 4;
const prefillRounds = 3;
const stepsPerRound = 6;

interface Figure {
  readonly what: "decode" | "prefill";
  /** Requests of a decode. */
  readonly batch: number;
  /** Tokens behind a decode, or those of the prompt. */
  readonly tokens: number;
  readonly milliseconds: number;
  readonly tokensPerSecond: number;
  readonly tokensPerCpuSecond: number;
  readonly ceilingShare: number;
}

interface Arguments {
  readonly model?: string;
  readonly random: string;
  readonly threads: number;
  readonly json?: string;
}

await main();

async function main(): Promise<void> {
  const args = parseArguments();
  const model = await openModelFile(args.model ?? random500mFile());
  print(args.model ?? random500mDescription);
  const options = optionsFor(args);
  const progress = new BigInt64Array(new SharedArrayBuffer(16));
  const device = loadDeviceDriver("cpu", undefined).open(model, options, progress);
  print(`${device.info.description}, ${describeMachine()}`);
  const timing = new StepTiming(device, options, model.spec.vocabSize);
  const weights = weightsOf(model);

  const first = await measureCeilings(args.threads, weights);
  if (!device.info.description.includes(`(${first.tier})`)) {
    throw new Error(
      `cpu_kernels measures ${first.tier}, the device is ${device.info.description}: run \`npm run build:native\``,
    );
  }
  const ceilings = [first];
  const prefills = prefillTimes(timing);
  ceilings.push(await measureCeilings(args.threads, weights));
  const decodes = decodeTimes(timing);
  ceilings.push(await measureCeilings(args.threads, weights));
  device.close();

  const ceiling = best(ceilings);
  const clockOf = args.threads === 1 ? byProcessor : (times: Times): Times => times;
  const figures = [
    ...decodeFigures(model, clockOf(decodes), ceiling),
    ...prefillFigures(model, clockOf(prefills), ceiling),
  ];
  print(report(figures, ceiling, model));
  if (args.json !== undefined) {
    const { description } = device.info;
    const content = { model: args.model ?? random500mDescription, description, ceiling, figures };
    writeFileSync(args.json, `${JSON.stringify(content, undefined, 2)}\n`);
  }
}

function parseArguments(): Arguments {
  return new Command("device-bench")
    .addOption(new Option("--model <path>", "a GGUF file or a folder").conflicts("random"))
    .addOption(new Option("--random <size>", "random weights").choices(["500m"]).default("500m"))
    .option("--threads <n>", "compute threads", positive, availableParallelism())
    .option("--json <file>", "write the figures")
    .parse()
    .opts<Arguments>();
}

function positive(raw: string): number {
  const value = Number(raw);
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError("a whole number of at least 1 is needed");
  }
  return value;
}

function optionsFor({ threads }: Arguments): DeviceOptions {
  const pooled = prompts.reduce((sum, tokens) => sum + tokens * (prefillRounds + 1), 0);
  const longest = Math.max(...prompts);
  return {
    backend: "cpu",
    tensorParallel: 1,
    threads,
    cpuIsa: "auto",
    dtype: "auto",
    blockSize,
    maxModelLen: longest + blockSize,
    maxRows,
    maxBatchedTokens: longest,
    blockCount: pooled / blockSize + maxRows,
    memoryBytes: 0,
  };
}

/** Whose multiplication is the ceiling of a prefill. */
function weightsOf(model: Model): Parameters<typeof measureCeilings>[1] {
  const type = model.weights.layers[0]?.gate.type;
  if (type === "Q4_1" || type === "Q8_0") return type;
  return "bf16";
}

type Times = ReadonlyMap<string, StepTime>;

function prefillTimes(timing: StepTiming): Times {
  const times = new Map<string, StepTime>();
  for (const tokens of prompts) {
    timing.prefill(blockSize);
    for (let round = 0; round < prefillRounds; round++) {
      keepBest(times, `${tokens}`, timing.prefill(tokens));
    }
  }
  return times;
}

function decodeTimes(timing: StepTiming): Times {
  const times = new Map<string, StepTime>();
  for (let round = 0; round < decodeRounds; round++) {
    for (const context of contexts) {
      for (const batch of batches) {
        keepBest(times, `${context}/${batch}`, timing.decode(batch, context, stepsPerRound));
      }
    }
  }
  return times;
}

function keepBest(times: Map<string, StepTime>, key: string, time: StepTime): void {
  const before = times.get(key) ?? time;
  times.set(key, {
    seconds: Math.min(before.seconds, time.seconds),
    cpuSeconds: Math.min(before.cpuSeconds, time.cpuSeconds),
  });
}

function byProcessor(times: Times): Times {
  return new Map(
    [...times].map(([key, { cpuSeconds }]) => [key, { seconds: cpuSeconds, cpuSeconds }]),
  );
}

function decodeFigures(model: Model, times: Times, ceiling: Ceilings): readonly Figure[] {
  const bytes = stepWeightBytes(model);
  return contexts.flatMap((tokens) =>
    batches.map((batch) => {
      const time = timeAt(times, `${tokens}/${batch}`);
      const ceilingShare = bytes / time.seconds / ceiling.readBytesPerSecond;
      return { what: "decode", batch, tokens, ceilingShare, ...rates(batch, time) };
    }),
  );
}

function prefillFigures(model: Model, times: Times, ceiling: Ceilings): readonly Figure[] {
  return prompts.map((tokens) => {
    const time = timeAt(times, `${tokens}`);
    const operations = 2 * layerWeightCount(model) * tokens;
    const ceilingShare = operations / time.seconds / ceiling.multiplyOpsPerSecond;
    return { what: "prefill", batch: 1, tokens, ceilingShare, ...rates(tokens, time) };
  });
}

function rates(tokens: number, { seconds, cpuSeconds }: StepTime) {
  return {
    milliseconds: seconds * 1e3,
    tokensPerSecond: tokens / seconds,
    tokensPerCpuSecond: tokens / cpuSeconds,
  };
}

function timeAt(times: Times, key: string): StepTime {
  const time = times.get(key);
  if (time === undefined) throw new Error(`${key} was not measured`);
  return time;
}

function report(figures: readonly Figure[], ceiling: Ceilings, model: Model): string {
  const gigabytes = stepWeightBytes(model) / 1e9;
  const read = ceiling.readBytesPerSecond / 1e9;
  const multiply = ceiling.multiplyOpsPerSecond / 1e9;
  const lines = figures.map((figure) => {
    const { what, batch, tokens, milliseconds, tokensPerSecond } = figure;
    const alone = figures.find((f) => f.what === what && f.tokens === tokens && f.batch === 1);
    const share = `${(100 * figure.ceilingShare).toFixed(0)} %`;
    const rate = figure.ceilingShare * (what === "decode" ? read : multiply);
    return [
      what === "decode" ? `decode ${batch} after ${tokens}` : `prefill ${tokens}`,
      milliseconds.toFixed(2),
      tokensPerSecond.toFixed(1),
      figure.tokensPerCpuSecond.toFixed(1),
      what === "decode" ? `${rate.toFixed(1)} GB/s` : `${rate.toFixed(0)} Gop/s`,
      share,
      ...(what === "decode" && alone !== undefined
        ? [
            (tokensPerSecond / alone.tokensPerSecond).toFixed(2),
            (figure.tokensPerCpuSecond / alone.tokensPerCpuSecond).toFixed(2),
          ]
        : []),
    ];
  });
  const head = ["", "ms", "tokens/s", "/CPU-s", "rate", "of ceiling", "x batch 1", "by CPU-s"];
  const rows = [head, ...lines].map(([name = "", ...cells]) =>
    [name.padEnd(22), ...cells.map((cell) => cell.padStart(11))].join(""),
  );
  return [
    `a step reads ${gigabytes.toFixed(3)} GB; ceilings: read ${read.toFixed(1)} GB/s, multiply ${multiply.toFixed(0)} Gop/s`,
    ...rows,
  ].join("\n");
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
