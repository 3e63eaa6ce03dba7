/**
 * What streaming costs the engine thread:
 *
 *     node engine/bench/stream-cost.ts [--requests 256] [--steps 100] [--rounds 3] [--json FILE]
 *
 * Serves from this process over a device that takes 20 ms for a step and no processor, to clients in
 * another: the same requests in turn as streams, of which every event is read, and as plain answers,
 * which cost one write each. Prints the engine thread's processor time per step while all requests
 * decode, and the main thread's beside it. The target is that streams cost the engine thread nothing
 * that could be told from the spread between rounds. Linux only: threads are told apart by `/proc`.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import { type PacedServing, startPacedServing } from "../../e2e/paced-serving.ts";
import { describeMachine } from "./machine.ts";

const stepMs = 20;
/** Steps of an answer beyond those that are measured, for requests that come later than others. */
const spareSteps = 100;

interface Arguments {
  readonly requests: number;
  readonly steps: number;
  readonly rounds: number;
  readonly json?: string;
}

interface Round {
  readonly steps: number;
  /** Of one step: processor time of the engine thread, and of the thread that serves HTTP. */
  readonly engineMicroseconds: number;
  readonly mainMicroseconds: number;
  readonly wallMicroseconds: number;
}

const kinds = ["plain", "stream"] as const;
type Kind = (typeof kinds)[number];

const readers = fileURLToPath(new URL("./stream-readers.ts", import.meta.url));

await main();

async function main(): Promise<void> {
  const args = parseArguments();
  const before = threadIds();
  await using serving = await startPacedServing(args.requests, stepMs);
  const started = threadIds().filter((thread) => !before.includes(thread));
  print(`${args.requests} requests at once, ${describeMachine()}`);
  // Compiles what the measured rounds run.
  const engine = await busiest(started, () => runRound(serving, "stream", args, process.pid));
  const rounds: Record<Kind, Round[]> = { plain: [], stream: [] };
  for (let round = 0; round < args.rounds; round++) {
    for (const kind of round % 2 === 0 ? kinds : kinds.toReversed()) {
      rounds[kind].push(await runRound(serving, kind, args, engine));
    }
  }
  for (const kind of kinds) print(lineOf(kind, rounds[kind]));
  print(verdictOf(rounds));
  if (args.json !== undefined) writeFileSync(args.json, `${JSON.stringify(rounds)}\n`);
}

function parseArguments(): Arguments {
  return new Command("stream-cost")
    .option("--requests <n>", "requests at once", positive, 256)
    .option("--steps <n>", "steps of a round", positive, 100)
    .option("--rounds <n>", "rounds of either kind", positive, 3)
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

/** Sends the requests, waits until all of them decode, and measures that many steps. */
async function runRound(
  { engine, url }: PacedServing,
  kind: Kind,
  { requests, steps }: Arguments,
  engineThread: number,
): Promise<Round> {
  const words = [url, String(requests), String(steps + spareSteps), kind];
  const clients = fork(readers, words);
  const closed = once(clients, "close");
  while (engine.stats().runningCount < requests && clients.exitCode === null) await sleep(5);
  const before = readings();
  while (engine.stats().stepCount < before.step + steps && clients.exitCode === null) {
    await sleep(stepMs);
  }
  const after = readings();
  const decoding = engine.stats().runningCount;
  const [code] = await closed;
  if (code !== 0 || decoding < requests) {
    throw new Error(
      `${decoding} of ${requests} requests decoded to the end; clients ended ${code}`,
    );
  }
  const counted = after.step - before.step;
  return {
    steps: counted,
    engineMicroseconds: (after.engine - before.engine) / counted,
    mainMicroseconds: (after.main - before.main) / counted,
    wallMicroseconds: (after.wall - before.wall) / counted,
  };

  function readings() {
    return {
      step: engine.stats().stepCount,
      engine: cpuMicroseconds(engineThread),
      main: cpuMicroseconds(process.pid),
      wall: performance.now() * 1e3,
    };
  }
}

/** The one of these threads that spends most while `run` runs: the engine's, not the pool's. */
async function busiest(threads: readonly number[], run: () => Promise<unknown>): Promise<number> {
  const before = threads.map(cpuMicroseconds);
  await run();
  const spent = threads.map((thread, i) => cpuMicroseconds(thread) - (before[i] ?? 0));
  const found = threads[spent.indexOf(Math.max(...spent))];
  if (found === undefined) throw new Error("the engine started no thread");
  return found;
}

function threadIds(): readonly number[] {
  return readdirSync("/proc/self/task").map(Number);
}

function cpuMicroseconds(thread: number): number {
  const [nanoseconds = ""] = readFileSync(`/proc/self/task/${thread}/schedstat`, "utf8").split(" ");
  return Number(nanoseconds) / 1e3;
}

function lineOf(kind: Kind, rounds: readonly Round[]): string {
  const cell = (name: string, of: (round: Round) => number): string => {
    const sorted = rounds.map(of).toSorted((a, b) => a - b);
    const values = [sorted[0], sorted[Math.floor(sorted.length / 2)], sorted.at(-1)];
    return `${name} ${values.map((value) => (value ?? Number.NaN).toFixed(0)).join(" / ")}`;
  };
  return [
    `${kind.padEnd(6)} us of a step, min / median / max:`,
    `${cell("engine thread", (round) => round.engineMicroseconds)},`,
    `${cell("main thread", (round) => round.mainMicroseconds)},`,
    `${cell("clock", (round) => round.wallMicroseconds)}; ${rounds[0]?.steps} steps`,
  ].join(" ");
}

function verdictOf({ plain, stream }: Readonly<Record<Kind, readonly Round[]>>): string {
  const least = (rounds: readonly Round[]) => Math.min(...rounds.map((r) => r.engineMicroseconds));
  const most = (rounds: readonly Round[]) => Math.max(...rounds.map((r) => r.engineMicroseconds));
  const difference = least(stream) - least(plain);
  const spread = Math.max(most(plain) - least(plain), most(stream) - least(stream));
  return `streams cost the engine thread ${difference.toFixed(0)} us a step (best against best); rounds spread over ${spread.toFixed(0)} us`;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
