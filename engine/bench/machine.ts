/** What a benchmark says of its machine: the ceilings of this very moment, and how busy it is. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

export interface Ceilings {
  /** Instructions that were measured. */
  readonly tier: string;
  /** Bytes per second that the threads read together from memory that no cache holds. */
  readonly readBytesPerSecond: number;
  /** Floating-point or integer operations per second of the multiplication in cache. */
  readonly multiplyOpsPerSecond: number;
}

const program = path.resolve(import.meta.dirname, "../../build/native/cpu/cpu_kernels");

/**
 * Runs `cpu_kernels` until it has told both figures. With one thread these are per second of
 * processor time, with more per second on the wall.
 *
 * @param weights whose multiplication; `cpu_kernels` measures in the order given here
 */
export async function measureCeilings(
  threads: number,
  weights: "bf16" | "Q4_1" | "Q8_0",
): Promise<Ceilings> {
  if (!existsSync(program)) throw new Error(`no ${program}: run \`npm run build:native\``);
  const args = ["--threads", String(threads), "--seconds", weights === "bf16" ? "0.5" : "0.02"];
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  const closed = once(child, "close");
  let tier = "";
  let read: number | undefined;
  let multiply: number | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    const [gigabytes, gigaops] = figuresOf(line);
    tier ||= /^tier (\w+)/.exec(line)?.[1] ?? "";
    if (/^read \d+ MiB/.test(line)) read = gigabytes;
    if (line.startsWith(`${weights} multiplication in cache`)) multiply = gigaops;
    if (multiply !== undefined) break;
  }
  child.kill();
  await closed;
  if (read === undefined || multiply === undefined) {
    throw new Error(`${program} ended without the rates of reading and of multiplying ${weights}`);
  }
  return { tier, readBytesPerSecond: read * 1e9, multiplyOpsPerSecond: multiply * 1e9 };
}

/** The second and third number of a line of its table: GB/s and Gop/s. */
function figuresOf(line: string): readonly [number | undefined, number | undefined] {
  const numbers = line.slice(44).trim().split(/\s+/).map(Number);
  return [numbers[1], numbers[2]];
}

export function best(ceilings: readonly Ceilings[]): Ceilings {
  return {
    tier: ceilings[0]?.tier ?? "",
    readBytesPerSecond: Math.max(...ceilings.map((c) => c.readBytesPerSecond)),
    multiplyOpsPerSecond: Math.max(...ceilings.map((c) => c.multiplyOpsPerSecond)),
  };
}

/** Seconds of processor time that all threads of this process have used. */
export function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/**
 * Seconds of one processor, summed over all of them, that went to anybody since the machine
 * started, or that its hypervisor took: the difference over a measurement, less what the measured
 * processes used, is disturbance.
 */
export function machineBusySeconds(): number {
  const [, ...ticks] = (readFileSync("/proc/stat", "utf8").split("\n", 1)[0] ?? "").split(/\s+/);
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = ticks.map(Number);
  return (user + nice + system + irq + softirq + steal) / 100;
}

export function describeMachine(): string {
  const [first] = cpus();
  const load = loadavg().map((value) => value.toFixed(1));
  return `${cpus().length} x ${first?.model.trim() ?? "unknown"}, load ${load.join(" ")}`;
}
