import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";

import { EngineError } from "../../errors.ts";

/** A file of a model, and the SHA-256 of its bytes in lower-case hexadecimal. */
export interface HashedFile {
  readonly name: string;
  readonly sha256: string;
}

const hashPieceBytes = 4 * 2 ** 20;

/**
 * @param checksum 64 hexadecimal digits, with or without `sha256:`.
 * @returns the digits in lower case.
 * @throws EngineError CONFIG_INVALID
 */
export function parseChecksum(checksum: string): string {
  const digits = /^(?:sha256:)?([0-9a-f]{64})$/.exec(checksum.toLowerCase())?.[1];
  if (digits !== undefined) return digits;
  throw new EngineError(
    "CONFIG_INVALID",
    `the checksum ${JSON.stringify(checksum.slice(0, 100))} is not a SHA-256`,
    { remedy: "Give 64 hexadecimal digits, as sha256sum prints them, with or without sha256:." },
  );
}

export async function sha256OfFile(file: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  const pieces = createReadStream(file, {
    highWaterMark: hashPieceBytes,
    ...(signal === undefined ? {} : { signal }),
  });
  for await (const piece of pieces) hash.update(piece);
  return hash.digest("hex");
}

/**
 * The one checksum of a model: its file's, or the SHA-256 of what `sha256sum` prints for its files
 * sorted by name.
 */
export function checksumOfFiles(files: readonly HashedFile[]): string {
  const [only, ...others] = files;
  if (only !== undefined && others.length === 0) return only.sha256;
  const list = createHash("sha256");
  for (const { name, sha256 } of files.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    list.update(`${sha256}  ${name}\n`);
  }
  return list.digest("hex");
}

export function checksumMismatch(what: string, expected: string, actual: string): EngineError {
  return new EngineError(
    "CHECKSUM_MISMATCH",
    `${what} has the checksum sha256:${actual}, not sha256:${expected}`,
    { remedy: "Correct the checksum if the model is meant to have changed, else distrust it." },
  );
}
