/**
 * Quire beside llama.cpp; `llama-cpp/run.sh` installs the peer and starts this. Both engines are
 * loaded and take turns, round by round, with the same prompts of token ids and the same number of
 * threads: prefill of 512 tokens, decode of 128 tokens behind 128, and eight requests of 128 and 64 at
 * once. Both are asked through their JavaScript interface, for greedy tokens.
 */
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { Command, InvalidArgumentError } from "commander";
import { smollm2File } from "../../e2e/smollm2.ts";
import { bf16Copy } from "./bf16-copy.ts";
import { agreementOf, type Measure, type Rounds, reportOf } from "./llama-cpp-report.ts";
import { describeMachine, machineBusySeconds } from "./machine.ts";
import { type Job, type JobResult, maxPrompts } from "./peer.ts";
import { PeerProcess } from "./peer-process.ts";

interface Arguments {
  readonly directory: string;
  readonly threads: number;
  readonly rounds: number;
  readonly seconds: number;
  readonly json?: string;
}

const engines = ["quire", "llama"] as const;
type Who = (typeof engines)[number];
type Peers = Readonly<Record<Who, PeerProcess>>;

const quirePeer = new URL("./quire-peer.ts", import.meta.url);
const llamaPeer = new URL("./llama-peer.ts", import.meta.url);

const decodeLength = 128;
const sharedLength = 64;

const measures: readonly Measure[] = [
  {
    ...{ name: "prefill 512", target: { Q4_1: 1 } },
    job: { prompts: [promptOf(512, 1)], outputLength: 1 },
    rateOf: ({ answers: [answer] }) => 512 / seconds(answer?.firstMs),
  },
  {
    ...{ name: "decode 128", target: { Q4_1: 1, bf16: 0.97 } },
    job: { prompts: [promptOf(128, 2)], outputLength: decodeLength + 1 },
    rateOf: ({ answers: [answer] }) =>
      decodeLength / (seconds(answer?.lastMs) - seconds(answer?.firstMs)),
  },
  {
    ...{ name: "8 at once", target: { Q4_1: 2, bf16: 2 } },
    job: {
      prompts: Array.from({ length: maxPrompts }, (_, i) => promptOf(128, 3 + i)),
      outputLength: sharedLength,
    },
    rateOf: ({ answers }) =>
      (maxPrompts * sharedLength) / seconds(Math.max(...answers.map(({ lastMs }) => lastMs))),
  },
];

await main();

async function main(): Promise<void> {
  const args = parseArguments();
  const quantised = await smollm2File();
  const files = { Q4_1: quantised, bf16: bf16Copy(quantised, "build/bench") };
  print(`${describeMachine()}, ${args.threads} threads each`);
  const all: Record<string, Rounds> = {};
  for (const [format, file] of Object.entries(files)) {
    const threads = String(args.threads);
    const peers: Peers = {
      quire: await PeerProcess.start(quirePeer, [file, threads]),
      llama: await PeerProcess.start(llamaPeer, [args.directory, file, threads]),
    };
    try {
      const rounds = await runRounds(peers, args);
      all[format] = rounds;
      const descriptions = engines.map((who) => peers[who].description);
      print(`\nSmolLM2-135M ${format}: ${descriptions.join("; ")}`);
      print(reportOf(format, measures, rounds));
    } finally {
      for (const who of engines) await peers[who].close();
    }
  }
  print(`\n${describeMachine()} at the end`);
  if (args.json !== undefined) {
    writeFileSync(args.json, `${JSON.stringify({ machine: describeMachine(), ...all })}\n`);
  }
}

function parseArguments(): Arguments {
  return new Command("run.sh")
    .requiredOption("--directory <path>", "where node-llama-cpp is installed")
    .option("--threads <n>", "compute threads of either engine", positive, availableParallelism())
    .option("--rounds <n>", "rounds at most", positive, 6)
    .option("--seconds <n>", "time after which nothing begins but the first round", positive, 200)
    .option("--json <file>", "write every round's figures")
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

async function runRounds(peers: Peers, args: Arguments): Promise<Rounds> {
  const endMs = performance.now() + (args.seconds * 1e3) / 2;
  const rounds: Rounds = { quire: [], llama: [], agreement: [] };
  // The first touch of weights and pages is nobody's speed.
  const warmUp = { prompts: [promptOf(64, 0)], outputLength: 4 };
  for (const who of engines) await peers[who].run(warmUp);
  for (let round = 0; round < args.rounds; round++) {
    for (const measure of measures) {
      if (round > 0 && performance.now() > endMs) return rounds;
      // Whoever is second may find a warmer or a more throttled processor.
      const order = round % 2 === 0 ? engines : engines.toReversed();
      await runMeasure(peers, measure, order, rounds);
    }
  }
  return rounds;
}

async function runMeasure(
  peers: Peers,
  { name, job, rateOf }: Measure,
  order: readonly Who[],
  rounds: Rounds,
): Promise<void> {
  const results = new Map<Who, JobResult>();
  for (const who of order) {
    const { result, otherSeconds } = await timed(peers[who], job);
    const { cpuSeconds } = result;
    const rate = rateOf(result);
    rounds[who].push({ name, rate, cpuSeconds, otherSeconds });
    results.set(who, result);
    process.stderr.write(`${name}, ${who}: ${rate.toFixed(1)} tokens/s\n`);
  }
  rounds.agreement.push(agreementOf(results.get("quire"), results.get("llama")));
}

/** With the processors' time that neither this job nor an idle machine used. */
async function timed(peer: PeerProcess, job: Job) {
  const before = machineBusySeconds();
  const result = await peer.run(job);
  const busy = machineBusySeconds() - before;
  return { result, otherSeconds: Math.max(0, busy - result.cpuSeconds) };
}

/** Token ids from the middle of the vocabulary, the same for the same seed. */
function promptOf(length: number, seed: number): readonly number[] {
  let state = seed + 1;
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return 100 + ((state >>> 8) % 40_000);
  });
}

function seconds(milliseconds: number | undefined): number {
  return (milliseconds ?? Number.NaN) / 1e3;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
