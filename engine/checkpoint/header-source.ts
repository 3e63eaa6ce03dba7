import { isUtf8 } from "node:buffer";
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

import { EngineError } from "../errors.ts";
import { invalidCheckpoint } from "./invalid-checkpoint.ts";

/** Random access to the bytes of one file, all that the reader of a header asks for. */
export interface HeaderSource {
  /** Absolute path, for errors. */
  readonly file: string;
  /** Bytes in the whole file. */
  readonly size: number;
  /** Fills `target` from byte `position` on. The range must lie inside the file. */
  read(target: Uint8Array, position: number): void;
}

/**
 * Opens `file`, lends it to `use` and closes it. Reads are synchronous: a header is a few megabytes
 * in a handful of large pieces, read before anything is served.
 *
 * @throws EngineError CHECKPOINT_INVALID when the file cannot be read or is not a regular file.
 */
export function withHeaderSource<T>(file: string, use: (source: HeaderSource) => T): T {
  let descriptor: number | undefined;
  try {
    // A pipe that somebody left in the folder would block a plain open for ever.
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    return use(sourceOf(descriptor, file));
  } catch (error) {
    throw isSystemError(error) ? unreadable(file, error) : error;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/**
 * The bytes of a small file.
 *
 * @returns undefined when there is no such file.
 * @throws EngineError CHECKPOINT_INVALID when it is longer than `maxBytes`.
 */
export function readSmallFile(file: string, maxBytes: number): Buffer | undefined {
  try {
    return withHeaderSource(file, (source) => {
      if (source.size > maxBytes) {
        throw invalidCheckpoint({ file }, `${source.size} bytes exceed the limit of ${maxBytes}`);
      }
      const bytes = Buffer.allocUnsafe(source.size);
      source.read(bytes, 0);
      return bytes;
    });
  } catch (error) {
    if (error instanceof EngineError && isMissing(error.cause)) return undefined;
    throw error;
  }
}

/** @throws EngineError CHECKPOINT_INVALID when the bytes are not UTF-8. */
export function utf8Text(bytes: Buffer, file: string): string {
  if (!isUtf8(bytes)) throw invalidCheckpoint({ file }, "the text is not valid UTF-8");
  return bytes.toString("utf8");
}

/** An operating system's refusal, as the readers' error. */
export function unreadable(file: string, error: Error): EngineError {
  const remedy = "Check that the path exists and that this user may read it.";
  return invalidCheckpoint({ file }, `cannot be read: ${error.message}`, remedy, error);
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error;
}

function sourceOf(descriptor: number, file: string): HeaderSource {
  const stats = fstatSync(descriptor);
  if (!stats.isFile()) {
    throw invalidCheckpoint({ file }, "not a regular file", "Name a model's file or its folder.");
  }
  return {
    file,
    size: stats.size,
    read(target, position) {
      for (let done = 0; done < target.length; ) {
        const count = readSync(descriptor, target, done, target.length - done, position + done);
        if (count === 0) {
          const place = { file, offset: position + done };
          throw invalidCheckpoint(place, `the file ends here and not at ${stats.size}`);
        }
        done += count;
      }
    },
  };
}

function isMissing(error: unknown): boolean {
  return isSystemError(error) && error.code === "ENOENT";
}
