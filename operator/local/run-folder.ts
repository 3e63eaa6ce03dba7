import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

/** What a running `quire up` leaves for `quire get` to find. */
export interface RunState {
  readonly pid: number;
  /** Such as `http://127.0.0.1:8000`. */
  readonly address: string;
  readonly manifest: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

const stateFile = "up.json";

/** Folder of all runs of this user. */
function runsFolder(env: Environment): string {
  return join(env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "quire", "run");
}

/** Folder of the run that owns the port: logs, last words, state. */
export function runFolderOf(env: Environment, port: number): string {
  return join(runsFolder(env), String(port));
}

/** What the run before it left there is deleted. */
export async function makeRunFolder(env: Environment, port: number): Promise<void> {
  const folder = runFolderOf(env, port);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true, mode: 0o700 });
}

export async function writeRunState(folder: string, state: RunState): Promise<void> {
  await writeFile(join(folder, stateFile), JSON.stringify(state));
}

/** Logs stay, to be read afterwards. */
export async function removeRunState(folder: string): Promise<void> {
  await rm(join(folder, stateFile), { force: true });
}

/** Every run whose process is alive. */
export async function findRuns(env: Environment): Promise<RunState[]> {
  const root = runsFolder(env);
  const ports = await readdir(root).catch(() => []);
  const states = await Promise.all(ports.map((port) => readState(join(root, port, stateFile))));
  return states.filter((state) => state !== undefined).filter(({ pid }) => isAlive(pid));
}

async function readState(file: string): Promise<RunState | undefined> {
  const text = await readFile(file, "utf8").catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as RunState);
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
