import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open, readFile, rename, rm, writeFile } from "node:fs/promises";

/** What the bytes of a part belong to. */
export interface PartOrigin {
  /** A strong ETag or a date, for `If-Range`; without one a part cannot be resumed. */
  readonly validator: string | undefined;
  readonly totalBytes: number;
}

const hashPieceBytes = 4 * 2 ** 20;

/**
 * A file that is being downloaded, `TARGET.part`, and beside it a note of what it is a part of. Both
 * outlive their process, so that the next one goes on where it ended.
 */
export class PartFile {
  readonly #target: string;
  readonly #handle: FileHandle;
  #hash: Hash;
  #size: number;
  #origin: PartOrigin | undefined;

  private constructor(target: string, handle: FileHandle, origin: PartOrigin | undefined) {
    this.#target = target;
    this.#handle = handle;
    this.#origin = origin;
    this.#hash = createHash("sha256");
    this.#size = 0;
  }

  /** Opens the part of `target`, with what is there of it if that can be resumed. */
  static async open(target: string): Promise<PartFile> {
    const handle = await open(`${target}.part`, "a+");
    try {
      const part = new PartFile(target, handle, await readNote(target));
      await part.#readBack();
      return part;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Bytes that are there. */
  get size(): number {
    return this.#size;
  }

  get origin(): PartOrigin | undefined {
    return this.#origin;
  }

  get isComplete(): boolean {
    return this.#origin !== undefined && this.#size === this.#origin.totalBytes;
  }

  /** Empties the part, to be filled from `origin` or from one that is not known yet. */
  async restart(origin: PartOrigin | undefined): Promise<void> {
    await this.#handle.truncate(0);
    this.#size = 0;
    this.#hash = createHash("sha256");
    this.#origin = origin;
    if (origin === undefined) await rm(notePath(this.#target), { force: true });
    else await writeFile(notePath(this.#target), JSON.stringify(origin));
  }

  async append(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      done += (await this.#handle.write(bytes, done)).bytesWritten;
    }
    this.#hash.update(bytes);
    this.#size += bytes.length;
  }

  /** Gives the part its target's name. @returns the SHA-256 of the file. */
  async finish(): Promise<string> {
    await rename(`${this.#target}.part`, this.#target);
    await rm(notePath(this.#target), { force: true });
    return this.#hash.digest("hex");
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  async #readBack(): Promise<void> {
    const { size } = await this.#handle.stat();
    if (this.#origin?.validator === undefined || size > this.#origin.totalBytes) {
      await this.restart(undefined);
      return;
    }
    const pieces = createReadStream(`${this.#target}.part`, { highWaterMark: hashPieceBytes });
    for await (const piece of pieces) {
      this.#hash.update(piece);
      this.#size += piece.length;
    }
  }
}

function notePath(target: string): string {
  return `${target}.part.json`;
}

async function readNote(target: string): Promise<PartOrigin | undefined> {
  try {
    const note: PartOrigin = JSON.parse(await readFile(notePath(target), "utf8"));
    const isNote = typeof note.validator === "string" && Number.isSafeInteger(note.totalBytes);
    return isNote ? note : undefined;
  } catch {
    return undefined; // none, or cut while it was written: start from the first byte
  }
}
