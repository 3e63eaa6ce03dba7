import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, join } from "node:path";

import { checksumMismatch, checksumOfFiles, type HashedFile, sha256OfFile } from "./checksum.ts";
import { acquireLock, type FileLock } from "./file-lock.ts";
import { limitsOf, type ResolveOptions, type SourceProgress } from "./resolve-options.ts";

/** What a cache entry is found by. */
export interface EntryName {
  readonly scheme: "pypi" | "hf" | "https";
  /** For people who look into the cache; any characters. */
  readonly label: string;
  /** Everything that decides the content, such as the URL. */
  readonly identity: string;
}

/** A finished entry: its folder and the files in it. */
export interface CacheEntry {
  readonly folder: string;
  readonly files: readonly HashedFile[];
}

interface RecordedFile extends HashedFile {
  readonly size: number;
  /** Nanoseconds, in decimal. */
  readonly modified: string;
}

/** Where a source puts its files, and how it tells the user and waiting processes about it. */
export interface Staging {
  /** Kept after an interruption, so that the next attempt can resume. */
  readonly folder: string;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: SourceProgress) => void;
}

const recordName = ".quire.json";
const maxLabelCharacters = 80;
const progressIntervalMs = 100;

/** The folder that `cacheDir` is by default, from the value of `XDG_CACHE_HOME`. */
export function defaultCacheDir(xdgCacheHome: string | undefined): string {
  const base = xdgCacheHome?.startsWith("/") ? xdgCacheHome : join(homedir(), ".cache");
  return join(base, "quire");
}

/**
 * The entry of this name, downloaded if need be: once per machine, however many processes ask.
 * It appears by one rename, with all its files and their checksums, or not at all.
 *
 * @param checksum 64 hexadecimal digits that `checksumOfFiles` must give.
 * @param download puts the files into the staging folder and returns their checksums.
 * @throws EngineError CHECKSUM_MISMATCH; the download is deleted.
 */
export async function cachedEntry(
  name: EntryName,
  options: ResolveOptions,
  checksum: string | undefined,
  download: (staging: Staging) => Promise<readonly HashedFile[]>,
): Promise<CacheEntry> {
  const folder = folderOf(name, options.cacheDir);
  const find = () => findEntry(folder, checksum);
  const hit = await find();
  if (hit !== undefined) return hit;

  await mkdir(dirname(folder), { recursive: true });
  const lock = await acquireLock(folder, waitingFor(name, options), find);
  if ("settled" in lock) return lock.settled;
  try {
    return await fillEntry(name, folder, options, checksum, lock, download);
  } finally {
    await lock.release();
  }
}

/** The finished entry of this name, when there is one of this checksum; downloads nothing. */
export async function findCached(
  name: EntryName,
  options: ResolveOptions,
  checksum: string | undefined,
): Promise<CacheEntry | undefined> {
  return await findEntry(folderOf(name, options.cacheDir), checksum);
}

function folderOf(name: EntryName, cacheDir: string): string {
  const label = name.label.replaceAll(/[^A-Za-z0-9._-]+/g, "-").slice(0, maxLabelCharacters);
  const key = createHash("sha256").update(name.identity).digest("hex").slice(0, 12);
  return join(cacheDir, name.scheme, `${label}-${key}`);
}

function waitingFor(name: EntryName, options: ResolveOptions) {
  return {
    staleMs: limitsOf(options).staleLockMs,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    onWait: (ownerPid: number, note: string) =>
      options.onProgress?.(
        parseNote(note) ?? {
          phase: "Resolving",
          doneBytes: 0,
          totalBytes: 0,
          message: `waiting for process ${ownerPid}, which downloads ${name.label}`,
        },
      ),
  };
}

async function fillEntry(
  name: EntryName,
  folder: string,
  options: ResolveOptions,
  checksum: string | undefined,
  lock: FileLock,
  download: (staging: Staging) => Promise<readonly HashedFile[]>,
): Promise<CacheEntry> {
  await removeLeftovers(folder);
  const staging = `${folder}.partial`;
  await mkdir(staging, { recursive: true });
  const signals = options.signal === undefined ? [] : [options.signal];
  const files = await download({
    folder: staging,
    signal: AbortSignal.any([lock.signal, ...signals]),
    onProgress: throttled((progress) => {
      lock.note = JSON.stringify(progress);
      options.onProgress?.(progress);
    }),
  });

  const actual = checksumOfFiles(files);
  if (checksum !== undefined && actual !== checksum) {
    await rm(staging, { recursive: true, force: true });
    throw checksumMismatch(name.label, checksum, actual);
  }
  await writeRecord(staging, files);
  lock.signal.throwIfAborted();
  await putInPlace(staging, folder);
  return { folder, files };
}

/**
 * A finished entry whose files are as they were recorded. A file that was touched is hashed again;
 * one that changed makes the entry count as absent, as does a checksum that is not the wanted one.
 */
async function findEntry(
  folder: string,
  checksum: string | undefined,
): Promise<CacheEntry | undefined> {
  const files = await readRecord(folder);
  if (files === undefined) return undefined;
  if (checksum !== undefined && checksumOfFiles(files) !== checksum) return undefined;
  let touched = false;
  for (const file of files) {
    const stats = await stat(join(folder, file.name), { bigint: true }).catch(() => undefined);
    if (stats === undefined || Number(stats.size) !== file.size) return undefined;
    if (String(stats.mtimeNs) === file.modified) continue;
    if ((await sha256OfFile(join(folder, file.name))) !== file.sha256) return undefined;
    touched = true;
  }
  if (touched) await writeRecord(folder, files);
  return { folder, files };
}

async function readRecord(folder: string): Promise<readonly RecordedFile[] | undefined> {
  const text = await readFile(join(folder, recordName), "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    const record: { readonly files: readonly RecordedFile[] } = JSON.parse(text);
    const isWhole = record.files.every(({ name, sha256 }) => `${name}${sha256}`.length > 64);
    return isWhole && record.files.length > 0 ? record.files : undefined;
  } catch {
    return undefined; // damaged: as good as absent
  }
}

/** Also brings the files to the disk, so that a power cut after the rename loses none of them. */
async function writeRecord(folder: string, files: readonly HashedFile[]): Promise<void> {
  const recorded: RecordedFile[] = [];
  for (const { name, sha256 } of files) {
    const path = join(folder, name);
    await syncToDisk(path);
    const stats = await stat(path, { bigint: true });
    recorded.push({ name, sha256, size: Number(stats.size), modified: String(stats.mtimeNs) });
  }
  // Renamed into place, because processes without the lock read it.
  const draft = join(folder, `${recordName}.${randomBytes(4).toString("hex")}`);
  await writeFile(draft, JSON.stringify({ files: recorded }, undefined, 2));
  await syncToDisk(draft);
  await rename(draft, join(folder, recordName));
}

async function syncToDisk(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function putInPlace(staging: string, folder: string): Promise<void> {
  const old = `${folder}.old-${randomBytes(4).toString("hex")}`;
  await rename(folder, old).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  await rename(staging, folder);
  await rm(old, { recursive: true, force: true });
}

/** Entries that were replaced by a process that did not live to delete them. */
async function removeLeftovers(folder: string): Promise<void> {
  const prefix = `${basename(folder)}.old-`;
  for (const name of await readdir(dirname(folder))) {
    if (!name.startsWith(prefix)) continue;
    await rm(join(dirname(folder), name), { recursive: true, force: true });
  }
}

/** Passes on what is new to a reader: another message, the last byte, or a tenth of a second. */
function throttled(report: (progress: SourceProgress) => void): Staging["onProgress"] {
  let lastMessage: string | undefined;
  let lastAt = 0;
  return (progress) => {
    const now = performance.now();
    const isDone = progress.totalBytes > 0 && progress.doneBytes === progress.totalBytes;
    if (progress.message === lastMessage && !isDone && now - lastAt < progressIntervalMs) return;
    lastMessage = progress.message;
    lastAt = now;
    report(progress);
  };
}

function parseNote(note: string): SourceProgress | undefined {
  try {
    return JSON.parse(note);
  } catch {
    return undefined; // not written yet, or being written
  }
}
