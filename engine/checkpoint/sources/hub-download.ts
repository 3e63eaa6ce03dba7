import { createHash } from "node:crypto";
import { readFile, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import type { Staging } from "./cache.ts";
import { checksumMismatch, type HashedFile, sha256OfFile } from "./checksum.ts";
import { requireSpace } from "./disk-space.ts";
import { downloadFile } from "./http-download.ts";
import {
  fileUrl,
  type HubClient,
  type HubFile,
  hubRemedies,
  listFolder,
  lookUpRevision,
} from "./hub-api.ts";
import { selectFiles } from "./hub-files.ts";
import type { HubSource } from "./hub-uri.ts";
import { formatBytes, sourceFailed } from "./resolve-options.ts";

const parallelDownloads = 4;
/** Larger files are kept by their SHA-256, so only a lying listing has one that is not. */
const maxGitBlobBytes = 64 * 2 ** 20;

/** Called with the bytes of one file that are there. */
type OnFileBytes = (doneBytes: number) => void;

/**
 * Downloads the files of a model at `commit` into the staging folder, four at a time, and checks
 * each against the digest that the hub lists. Files that an earlier attempt finished are kept.
 *
 * @throws EngineError MODEL_SOURCE_FAILED, CHECKSUM_MISMATCH
 */
export async function downloadSnapshot(
  source: HubSource,
  commit: string,
  client: HubClient,
  staging: Staging,
): Promise<readonly HashedFile[]> {
  const folder = source.path === undefined ? "" : dirname(source.path).replace(/^\.$/, "");
  const files = selectFiles(source, await listFolder(client, commit, folder));
  const { license } = await lookUpRevision(client, commit);
  const totalBytes = files.reduce((sum, file) => sum + file.size, 0);
  await requireSpace(staging.folder, totalBytes - (await bytesThere(files, staging.folder)));

  const message =
    `downloading ${client.repo} at ${commit.slice(0, 8)} from ${client.hubUrl.host}: ` +
    `${files.length} files, ${formatBytes(totalBytes)}, licence ${license ?? "not stated"}`;
  const doneOf = new Map<string, number>();
  return await inParallel(files, client.signal, (file, signal) =>
    fetchFile(file, commit, { ...client, signal }, staging.folder, (done) => {
      doneOf.set(file.path, done);
      const doneBytes = [...doneOf.values()].reduce((sum, bytes) => sum + bytes, 0);
      staging.onProgress({ phase: "Downloading", doneBytes, totalBytes, message });
    }),
  );
}

/** The first failure stops the others; all have ended when this returns or throws. */
async function inParallel<T, R>(
  items: readonly T[],
  signal: AbortSignal,
  work: (item: T, signal: AbortSignal) => Promise<R>,
): Promise<readonly R[]> {
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const queue = items.values();
  const results: R[] = [];
  const runOne = async () => {
    for (const item of queue) {
      either.throwIfAborted();
      results.push(await work(item, either));
    }
  };
  const runs = Array.from({ length: parallelDownloads }, () =>
    runOne().catch((error) => failed.abort(error)),
  );
  await Promise.all(runs);
  either.throwIfAborted();
  return results;
}

async function fetchFile(
  file: HubFile,
  commit: string,
  client: HubClient,
  folder: string,
  onBytes: OnFileBytes,
): Promise<HashedFile> {
  const name = basename(file.path);
  const target = join(folder, name);
  const there = await stat(target).catch(() => undefined);
  const sha256 =
    there?.size === file.size
      ? await sha256OfFile(target, client.signal)
      : await downloadFile({
          url: fileUrl(client, commit, file.path),
          headers: client.headers,
          target,
          expectedBytes: file.size,
          remedies: hubRemedies,
          limits: client.limits,
          signal: client.signal,
          onBytes,
        });
  onBytes(file.size);
  await verify(file, target, sha256, client.repo);
  return { name, sha256 };
}

async function verify(file: HubFile, target: string, sha256: string, repo: string): Promise<void> {
  const { algorithm, hex } = file.digest;
  const actual = algorithm === "sha256" ? sha256 : await gitBlobId(file, target);
  if (actual === hex) return;
  await rm(target, { force: true });
  throw algorithm === "sha256"
    ? checksumMismatch(`${repo}/${file.path}`, hex, actual)
    : sourceFailed(
        `${repo}/${file.path} has the git object ${actual}, not ${hex}`,
        "Start again; if it stays so, distrust the server.",
      );
}

/** Git names a file's content by the SHA-1 of a short header and its bytes. */
async function gitBlobId(file: HubFile, target: string): Promise<string> {
  if (file.size > maxGitBlobBytes) {
    const fact = `${file.path} of ${formatBytes(file.size)} is listed without a SHA-256`;
    throw sourceFailed(fact, "Check the hub's URL.");
  }
  const hash = createHash("sha1").update(`blob ${file.size}\0`);
  return hash.update(await readFile(target)).digest("hex");
}

async function bytesThere(files: readonly HubFile[], folder: string): Promise<number> {
  let bytes = 0;
  for (const file of files) {
    const target = join(folder, basename(file.path));
    for (const path of [target, `${target}.part`]) {
      bytes += (await stat(path).catch(() => undefined))?.size ?? 0;
    }
  }
  return bytes;
}
