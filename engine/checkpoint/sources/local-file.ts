import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { checksumMismatch, checksumOfFiles, type HashedFile, sha256OfFile } from "./checksum.ts";
import { type ResolvedModel, type ResolveOptions, sourceFailed } from "./resolve-options.ts";

/** A checksum that was verified, with what the files looked like then. */
interface Verified {
  readonly sha256: string;
  readonly stamp: string;
}

/**
 * `file://PATH` or a plain path: used where it is, never copied.
 *
 * @param checksum 64 hexadecimal digits. Verified once: the result is kept in the cache until a
 * file's size or time of modification changes.
 * @throws EngineError MODEL_SOURCE_FAILED, CHECKSUM_MISMATCH
 */
export async function resolveLocalFile(
  uri: string,
  options: ResolveOptions,
  checksum: string | undefined,
): Promise<ResolvedModel> {
  const path = uri.startsWith("file:") ? pathOf(uri) : resolve(uri);
  const names = await namesAt(path);
  if (checksum !== undefined) await verify(path, names, checksum, options);
  return { path };
}

function pathOf(uri: string): string {
  try {
    if (!/^file:\/\//i.test(uri)) throw new Error("two slashes are missing");
    return fileURLToPath(uri);
  } catch (error) {
    const remedy = "Write three slashes before an absolute path: file:///path/to/model.gguf.";
    throw sourceFailed(`${uri} is not the URL of a local file`, remedy, error);
  }
}

/** @returns the files of a folder, `.` for a file itself. */
async function namesAt(path: string): Promise<readonly string[]> {
  try {
    if (!(await stat(path)).isDirectory()) return ["."];
    const entries = await readdir(path, { withFileTypes: true });
    // Hidden files are tools' notes and no part of a model.
    return entries
      .filter((entry) => !entry.isDirectory() && !entry.name.startsWith("."))
      .map((entry) => entry.name)
      .toSorted();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const remedy = "Check the path; in a container, check that the volume is mounted there.";
    throw sourceFailed(`the model ${path} cannot be opened: ${reason}`, remedy, error);
  }
}

async function verify(
  path: string,
  names: readonly string[],
  checksum: string,
  options: ResolveOptions,
): Promise<void> {
  const record = recordPath(path, options.cacheDir);
  const stamp = await stampOf(path, names);
  const known = await readVerified(record);
  if (known?.stamp === stamp && known.sha256 === checksum) return;

  options.onProgress?.({
    phase: "Resolving",
    doneBytes: 0,
    totalBytes: 0,
    message: `computing the checksum of ${path}`,
  });
  const files: HashedFile[] = [];
  for (const name of names) {
    files.push({ name, sha256: await sha256OfFile(join(path, name), options.signal) });
  }
  const actual = checksumOfFiles(files);
  if (actual !== checksum) throw checksumMismatch(path, checksum, actual);
  await writeVerified(record, { sha256: actual, stamp });
}

async function stampOf(path: string, names: readonly string[]): Promise<string> {
  const stamps: string[] = [];
  for (const name of names) {
    const { size, mtimeNs, ino } = await stat(join(path, name), { bigint: true });
    stamps.push(`${name} ${size} ${mtimeNs} ${ino}`);
  }
  return stamps.join("\n");
}

function recordPath(path: string, cacheDir: string): string {
  const key = createHash("sha256").update(path).digest("hex").slice(0, 12);
  return join(cacheDir, "verified", `${basename(path)}-${key}.json`);
}

async function readVerified(record: string): Promise<Partial<Verified> | undefined> {
  try {
    return JSON.parse(await readFile(record, "utf8"));
  } catch {
    return undefined; // not verified yet, or damaged: verify again
  }
}

async function writeVerified(record: string, verified: Verified): Promise<void> {
  const draft = `${record}.${randomBytes(4).toString("hex")}`;
  await mkdir(join(record, ".."), { recursive: true });
  await writeFile(draft, JSON.stringify(verified));
  await rename(draft, record);
}
