import { createHash, randomBytes } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { open, readdir, readFile, stat, unlink } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * One owner among all processes that share a folder, across kill -9.
 *
 * Each contender creates a file of its own, whose name tells who it is, then lists the files of the
 * others. Whoever finds no living rival owns the lock; whoever finds one removes its file and waits.
 * Of two owners the later would have seen the earlier's file, so there is never a second one. Names
 * are not used twice: anybody may delete a dead contender's file, and no takeover can hit a new
 * owner by mistake, as it can when a lock is one file that is deleted and created again.
 */
export interface FileLock {
  /** Aborts when the lock was lost: someone took this process for dead. */
  readonly signal: AbortSignal;
  /** What waiters are to be told; reaches them with the next heartbeat. */
  note: string;
  release(): Promise<void>;
}

export interface LockWaiting {
  /** A lock of another machine or container is stale when unchanged for this long. */
  readonly staleMs: number;
  readonly signal?: AbortSignal;
  /** Called about every 300 ms while another process owns the lock, with that owner's note. */
  readonly onWait: (ownerPid: number, note: string) => void;
}

interface Contender {
  readonly file: string;
  readonly machine: string;
  readonly pid: number;
  readonly startTime: string;
}

/** When a contender's file was last seen to change, by the observer's own clock. */
type Sightings = Map<string, { modifiedMs: number; seenAt: number }>;

const heartbeatMs = 2_000;
const maxNoteBytes = 1_000;

/**
 * Waits for the lock that `path` names; its files are `PATH.lock.*`.
 *
 * @param settled whether there is nothing left to do under the lock. Asked after each attempt to own
 * it, also a successful one: what an owner before did is there by then.
 */
export async function acquireLock<T>(
  path: string,
  waiting: LockWaiting,
  settled: () => Promise<T | undefined>,
): Promise<FileLock | { readonly settled: T }> {
  const sightings: Sightings = new Map();
  for (;;) {
    waiting.signal?.throwIfAborted();
    const owner = (await livingContenders(path, sightings, waiting.staleMs))[0];
    const lock = owner === undefined ? await contend(path, sightings, waiting.staleMs) : undefined;
    const value = await settled().catch(async (error) => {
      await lock?.release();
      throw error;
    });
    if (value === undefined && lock !== undefined) return lock;
    await lock?.release();
    if (value !== undefined) return { settled: value };
    if (owner !== undefined) waiting.onWait(owner.pid, await readNote(owner.file));
    // Random, so that contenders that met do not meet again.
    await sleep(100 + Math.random() * 400, undefined, { signal: waiting.signal });
  }
}

async function contend(
  path: string,
  sightings: Sightings,
  staleMs: number,
): Promise<FileLock | undefined> {
  const own = nameOf(path);
  await (await open(own, "wx")).close();
  try {
    const rivals = await livingContenders(path, sightings, staleMs);
    if (rivals.every((rival) => rival.file === own)) return hold(own);
  } catch (error) {
    await unlinkIfThere(own);
    throw error;
  }
  await unlinkIfThere(own);
  return undefined;
}

function hold(file: string): FileLock {
  const lost = new AbortController();
  const lock = {
    signal: lost.signal,
    note: "",
    async release(): Promise<void> {
      clearInterval(timer);
      await beating;
      await unlinkIfThere(file);
    },
  };
  let beating = Promise.resolve();
  const timer = setInterval(() => {
    beating = beat(file, lock.note).catch((error) => lost.abort(error));
  }, heartbeatMs);
  timer.unref();
  return lock;
}

/** Opens without creating: a file that was deleted must not come back to life. */
async function beat(file: string, note: string): Promise<void> {
  const handle = await open(file, "r+");
  try {
    await handle.truncate();
    await handle.write(note.slice(0, maxNoteBytes), 0);
    await handle.utimes(new Date(), new Date());
  } finally {
    await handle.close();
  }
}

async function readNote(file: string): Promise<string> {
  return await readFile(file, "utf8").catch(() => "");
}

async function livingContenders(
  path: string,
  sightings: Sightings,
  staleMs: number,
): Promise<Contender[]> {
  const living: Contender[] = [];
  for (const contender of await contendersOf(path)) {
    if (await isAlive(contender, sightings, staleMs)) living.push(contender);
    else await unlinkIfThere(contender.file);
  }
  return living;
}

async function contendersOf(path: string): Promise<Contender[]> {
  const prefix = `${basename(path)}.lock.`;
  const contenders: Contender[] = [];
  for (const name of await readdir(dirname(path))) {
    if (!name.startsWith(prefix)) continue;
    const [machine, pid, startTime] = name.slice(prefix.length).split("-");
    if (machine === undefined || startTime === undefined) continue;
    contenders.push({ file: join(dirname(path), name), machine, pid: Number(pid), startTime });
  }
  return contenders;
}

async function isAlive(
  contender: Contender,
  sightings: Sightings,
  staleMs: number,
): Promise<boolean> {
  if (contender.machine === thisMachine()) return isRunning(contender.pid, contender.startTime);

  const modifiedMs = await stat(contender.file).then(
    (stats) => stats.mtimeMs,
    () => undefined,
  );
  if (modifiedMs === undefined) return false;
  const known = sightings.get(contender.file);
  if (known?.modifiedMs === modifiedMs) return performance.now() - known.seenAt < staleMs;
  sightings.set(contender.file, { modifiedMs, seenAt: performance.now() });
  return true;
}

function isRunning(pid: number, startTime: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // A process of another user exists although it may not be signalled.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
  // The number may have been given to a later process.
  return startTimeOf(pid) === startTime;
}

function nameOf(path: string): string {
  const unique = randomBytes(6).toString("hex");
  return `${path}.lock.${thisMachine()}-${process.pid}-${startTimeOf(process.pid)}-${unique}`;
}

/** Process numbers mean the same to two processes when they share a boot and a pid namespace. */
function thisMachine(): string {
  const boot = readOr("/proc/sys/kernel/random/boot_id", hostname());
  return createHash("sha256").update(`${boot} ${pidNamespace()}`).digest("hex").slice(0, 12);
}

function pidNamespace(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return "";
  }
}

/** Field 22 of `proc_pid_stat(5)`; the name in field 2 may itself contain spaces and brackets. */
function startTimeOf(pid: number): string {
  const status = readOr(`/proc/${pid}/stat`, "");
  return status.slice(status.lastIndexOf(")") + 2).split(" ")[19] ?? "unknown";
}

function readOr(file: string, fallback: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    return fallback;
  }
}

async function unlinkIfThere(file: string): Promise<void> {
  await unlink(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
}
