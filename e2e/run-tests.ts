/**
 * `npm test`: builds the addon, runs ctest and every `*.test.ts`, names what this machine could not
 * run, and ends with one line that counts all of them.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync } from "node:fs";
import { availableParallelism } from "node:os";
import { Readable } from "node:stream";
import { run as runNodeTests } from "node:test";
import { spec } from "node:test/reporters";

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

const testTimeoutMs = 10 * 60_000;

const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
const notRun: string[] = [];

const patterns = process.argv.slice(2);
if (patterns.length === 0) await nativeTests();
await nodeTests(patterns.length > 0 ? patterns : ["{crds,operator,engine,e2e}/**/*.test.ts"]);
if (!existsSync("/dev/nvidia0")) notRun.push("the CUDA backend: there is no GPU");

for (const line of notRun) print(`not run: ${line}`);
print(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 ? 1 : 0;

async function nativeTests(): Promise<void> {
  await must("npm", ["run", "--silent", "build:native"]);
  const output = await must("ctest", ["--test-dir", "build/native", "--output-on-failure"]);
  const result = /(\d+)% tests passed, (\d+) tests failed out of (\d+)/.exec(output);
  if (result === null) throw new Error("ctest printed no summary");
  const [, , failed, total] = result.map(Number);
  counts.failed += failed ?? 0;
  counts.passed += (total ?? 0) - (failed ?? 0);
  for (const skipped of output.matchAll(/^\s+\d+ - (\S+) \(Skipped\)/gm)) {
    counts.skipped += 1;
    counts.passed -= 1;
    notRun.push(`${skipped[1]}: this processor or machine lacks what it needs`);
  }
}

async function nodeTests(globs: readonly string[]): Promise<void> {
  const files = globs.flatMap((pattern) => globSync(pattern)).sort();
  if (files.length === 0) throw new Error(`no test file matches ${globs.join(" ")}`);
  const stream = runNodeTests({
    files,
    concurrency: Math.min(2, availableParallelism()),
    timeout: testTimeoutMs,
  });
  stream.on("test:pass", (event) => {
    // A skipped suite is one event: its tests are never heard of.
    if (event.skip !== undefined) {
      counts.skipped += 1;
      notRun.push(`${event.name}: ${event.skip === true ? "skipped" : event.skip}`);
    } else if (event.details.type !== "suite") counts.passed += 1;
  });
  stream.on("test:fail", (event) => {
    if (event.details.type !== "suite") counts.failed += 1;
  });
  const report = Readable.from(stream).compose(new spec());
  report.pipe(process.stdout, { end: false });
  await once(report, "end");
}

/** Runs a command with its output shown; a failing ctest is counted, anything else ends the run. */
async function must(command: string, args: readonly string[]): Promise<string> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
    process.stdout.write(chunk);
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0 && command !== "ctest") throw new Error(`${command} ${args.join(" ")} failed`);
  return output;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
