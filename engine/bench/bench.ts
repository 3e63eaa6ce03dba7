/** `quire bench`: sends a workload to an OpenAI endpoint and prints what its users would see. */
import { writeFile } from "node:fs/promises";
import { SingleBar } from "cli-progress";
import { Command, InvalidArgumentError, Option } from "commander";
import { complete, type RequestRecord, type Target } from "./client.ts";
import { plot, table } from "./report.ts";
import { type Progress, runLoad } from "./run-load.ts";
import { type GoodputLimits, type Summary, summarize } from "./summary.ts";
import { arrivalTimes, type WorkloadName, workload, workloadNames } from "./workload.ts";

interface BenchOptions {
  readonly url: string;
  readonly model?: string;
  readonly workload: WorkloadName;
  readonly requests: number;
  readonly concurrency: number;
  readonly rate?: number;
  readonly burstiness: number;
  readonly inputLength: number;
  readonly outputLength: number;
  readonly prefixes: number;
  readonly prefixLength: number;
  readonly warmup: number;
  readonly seed: number;
  readonly ignoreEos: boolean;
  readonly goodput?: GoodputLimits;
  readonly timeout: number;
  readonly json?: string;
  readonly svg?: string;
}

const plainProgressMs = 2_000;

/**
 * @param argv arguments after `bench`
 * @param apiKey key for the endpoint, from the environment: a command line is no place for secrets
 * @returns the exit code: 1 when a request failed
 */
export async function bench(argv: readonly string[], apiKey: string | undefined): Promise<number> {
  const command = describe();
  command.parse([...argv], { from: "user" });
  try {
    return await measure(command.opts<BenchOptions>(), apiKey);
  } catch (error) {
    if (!(error instanceof Unmeasurable)) throw error;
    process.stderr.write(`${error.message}\n`);
    return 1;
  }
}

/** Why nothing was measured; the message says what to do about it. */
class Unmeasurable extends Error {}

async function measure(options: BenchOptions, apiKey: string | undefined): Promise<number> {
  const url = new URL(options.url);
  const target: Target = {
    url,
    model: options.model ?? (await firstModel(url, apiKey)),
    apiKey,
    ignoreEos: options.ignoreEos,
    timeoutMs: options.timeout * 1_000,
  };
  await warmUp(options, target);
  const records = await run(options, target);
  await report(options, target, records);
  return records.some((record) => record.error !== undefined) ? 1 : 0;
}

function describe(): Command {
  return new Command("quire bench")
    .description("Sends a workload to an OpenAI endpoint: TTFT, ITL, TPOT, throughput, goodput.")
    .addHelpText("after", "\nThe key of an endpoint that asks for one is read from OPENAI_API_KEY.")
    .option("--url <url>", "the endpoint, with /v1", endpoint, "http://127.0.0.1:8000/v1")
    .option("--model <name>", "model to ask; the first that the endpoint lists")
    .addOption(
      new Option("--workload <name>", "what to send").choices(workloadNames).default("sharegpt"),
    )
    .option("--requests <n>", "requests; of interference: long prompts", positive, 100)
    .option("--concurrency <n>", "closed loop: requests in flight", positive, 16)
    .option("--rate <per second>", "open loop: arrivals, whatever is in flight", positiveNumber)
    .option("--burstiness <shape>", "open loop: 1 is Poisson, less is burstier", positiveNumber, 1)
    .option("--input-length <tokens>", "prompt of all workloads but sharegpt", positive, 256)
    .option("--output-length <tokens>", "answer of all workloads but sharegpt", positive, 128)
    .option("--prefixes <n>", "shared-prefix: different prefixes", positive, 10)
    .option("--prefix-length <tokens>", "shared-prefix: length of a prefix", positive, 512)
    .option("--warmup <n>", "requests before the measurement", count, 4)
    .option("--seed <n>", "lengths, prompts and arrivals", count, 0)
    .option("--ignore-eos", "answers of exactly the length asked for (vLLM, Quire)", false)
    .option("--goodput <limits>", "such as ttft:500,tpot:30, in ms", limits)
    .option("--timeout <seconds>", "for one request", positive, 600)
    .option("--json <file>", "write the figures and every request's times")
    .option("--svg <file>", "write a plot of TTFT and ITL");
}

async function warmUp(options: BenchOptions, target: Target): Promise<void> {
  // Other prompts than the measured ones, which a prefix cache would otherwise already hold.
  const requests = workload("random", {
    requestCount: options.warmup,
    inputLength: 64,
    outputLength: 8,
    prefixCount: 1,
    prefixLength: 1,
    seed: options.seed + 1_000_003,
  });
  const records = await runLoad(
    { requests, concurrency: options.concurrency, arrivalsMs: undefined },
    (request) => complete(target, request),
    () => {},
  );
  const failure = records.find((record) => record.error !== undefined);
  if (failure !== undefined) throw new Unmeasurable(`warm-up failed: ${failure.error}`);
}

async function run(options: BenchOptions, target: Target): Promise<RequestRecord[]> {
  const requests = workload(options.workload, {
    requestCount: options.requests,
    inputLength: options.inputLength,
    outputLength: options.outputLength,
    prefixCount: options.prefixes,
    prefixLength: options.prefixLength,
    seed: options.seed,
  });
  const arrivalsMs =
    options.rate === undefined
      ? undefined
      : arrivalTimes(requests.length, options.rate, options.burstiness, options.seed);
  const progress = showProgress(requests.length);
  const records = await runLoad(
    { requests, concurrency: options.concurrency, arrivalsMs },
    (request) => complete(target, request),
    progress.update,
  );
  progress.stop();
  return records;
}

async function report(
  options: BenchOptions,
  target: Target,
  records: readonly RequestRecord[],
): Promise<void> {
  const groups = [...new Set(records.map((record) => record.group))];
  const summaries: Record<string, Summary> = {};
  for (const group of groups) {
    const ofGroup = records.filter((record) => record.group === group);
    summaries[group] = summarize(ofGroup, options.goodput);
    write(table(`${target.model}: ${group}`, summaries[group]));
  }
  const errors = new Set(records.flatMap((record) => record.error ?? []));
  for (const error of [...errors].slice(0, 5)) write(`failed: ${error}`);
  if (options.json !== undefined) {
    const json = { options, model: target.model, summaries, records };
    await writeFile(options.json, `${JSON.stringify(json)}\n`);
  }
  if (options.svg !== undefined) {
    await writeFile(options.svg, plot(`${target.model}, ${options.workload}`, records));
  }
}

/** A bar on a terminal, a line every two seconds elsewhere. */
function showProgress(total: number): { update(progress: Progress): void; stop(): void } {
  if (process.stderr.isTTY) {
    const format = "{bar} {value}/{total} requests, {inFlight} in flight, {failed} failed, {eta} s";
    const bar = new SingleBar({ format, stream: process.stderr });
    bar.start(total, 0, { inFlight: 0, failed: 0 });
    return {
      update: ({ done, inFlight, failed }) => bar.update(done, { inFlight, failed }),
      stop: () => bar.stop(),
    };
  }
  let shownMs = performance.now();
  return {
    update({ done, inFlight, failed }) {
      if (performance.now() - shownMs < plainProgressMs && done < total) return;
      shownMs = performance.now();
      const line = `${done}/${total} requests, ${inFlight} in flight, ${failed} failed`;
      process.stderr.write(`${line}\n`);
    },
    stop() {},
  };
}

async function firstModel(url: URL, apiKey: string | undefined): Promise<string> {
  const headers = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
  const endpoint = `${url.href.replace(/\/$/, "")}/models`;
  const response = await fetch(endpoint, { headers }).catch((cause: unknown) => {
    throw new Unmeasurable(`no endpoint answers at ${endpoint}: start one or give --url`, {
      cause,
    });
  });
  if (!response.ok) throw new Unmeasurable(`${endpoint} answered HTTP ${response.status}`);
  const { data } = (await response.json()) as { data: readonly { id: string }[] };
  const [model] = data;
  if (model === undefined) throw new Unmeasurable(`${endpoint} lists no model: give --model`);
  return model.id;
}

function endpoint(raw: string): string {
  if (URL.canParse(raw) && /^https?:/.test(raw)) return raw;
  throw new InvalidArgumentError("write it like http://127.0.0.1:8000/v1");
}

function count(raw: string): number {
  const value = Number(raw);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new InvalidArgumentError("a whole number of at least 0 is needed");
  }
  return value;
}

function positive(raw: string): number {
  if (count(raw) === 0) throw new InvalidArgumentError("a whole number of at least 1 is needed");
  return count(raw);
}

function positiveNumber(raw: string): number {
  const value = Number(raw);
  if (!Number.isFinite(value) || value <= 0) {
    throw new InvalidArgumentError("a number above 0 is needed");
  }
  return value;
}

function limits(raw: string): GoodputLimits {
  const match = /^ttft:(\d+(?:\.\d+)?),tpot:(\d+(?:\.\d+)?)$/.exec(raw);
  if (match === null) throw new InvalidArgumentError("write it like ttft:500,tpot:30, in ms");
  return { ttftMs: Number(match[1]), tpotMs: Number(match[2]) };
}

function write(line: string): void {
  process.stdout.write(`${line}\n`);
}
