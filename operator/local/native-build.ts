import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { UpError } from "./up-error.ts";

const keptLines = 20;

interface Tool {
  readonly command: readonly [string, ...string[]];
  readonly need: string;
  readonly debianPackage: string;
}

const tools: readonly Tool[] = [
  { command: ["g++", "--version"], need: "a C++ compiler (g++)", debianPackage: "g++" },
  { command: ["cmake", "--version"], need: "CMake", debianPackage: "cmake" },
  { command: ["python3", "--version"], need: "Python 3", debianPackage: "python3" },
  { command: ["python3", "-m", "pip", "--version"], need: "pip", debianPackage: "python3-pip" },
];

/**
 * What this machine lacks to build the addon and to fetch the model.
 *
 * @returns a line for each missing tool, with the Debian package that has it
 */
export function missingTools(runs: (command: Tool["command"]) => boolean = succeeds): string[] {
  return tools
    .filter(({ command }) => !runs(command))
    .map(
      ({ need, debianPackage }) =>
        `${need} is missing: install it with apt-get install -y ${debianPackage}`,
    );
}

function succeeds([program, ...args]: Tool["command"]): boolean {
  return spawnSync(program, args, { stdio: "ignore" }).status === 0;
}

/**
 * Builds the CPU addon into `build/native`; does nothing, in a tenth of a second, where it is built.
 *
 * @param root the checkout
 * @param onProgress called with the share that is built, in per cent, each time it grows
 * @throws UpError with the end of the compiler's output
 */
export async function buildAddon(
  root: string,
  onProgress: (percent: number) => void,
): Promise<void> {
  const folder = join(root, "build", "native");
  if (!existsSync(join(folder, "CMakeCache.txt"))) {
    await run(root, ["-S", "native", "-B", folder, "-DCMAKE_BUILD_TYPE=Release"], onProgress);
  }
  const jobs = String(availableParallelism());
  await run(root, ["--build", folder, "--target", "quire_cpu", "--parallel", jobs], onProgress);
}

async function run(
  root: string,
  args: readonly string[],
  onProgress: (percent: number) => void,
): Promise<void> {
  const child = spawn("cmake", args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  const last: string[] = [];
  let highest = 0;
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      last.push(line);
      if (last.length > keptLines) last.shift();
      const percent = percentOf(line);
      if (percent === undefined || percent <= highest) return;
      highest = percent;
      onProgress(percent);
    });
  }
  const [exitCode] = await once(child, "close");
  if (exitCode === 0) return;
  const command = `cmake ${args.join(" ")}`;
  throw new UpError(`${last.join("\n")}\n${command} failed with exit code ${exitCode}: see above`);
}

/** Ninja counts steps, `[12/34]`; make tells a share, `[ 35%]`. */
export function percentOf(line: string): number | undefined {
  const [, done, total] = /^\[(\d+)\/(\d+)\]/.exec(line) ?? [];
  if (done !== undefined) return Math.floor((100 * Number(done)) / Number(total));
  const [, percent] = /^\[ *(\d+)%\]/.exec(line) ?? [];
  return percent === undefined ? undefined : Number(percent);
}
