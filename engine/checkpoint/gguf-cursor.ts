import { isUtf8 } from "node:buffer";

import type { HeaderSource } from "./header-source.ts";
import { invalidCheckpoint } from "./invalid-checkpoint.ts";

const pieceBytes = 4 * 2 ** 20;
/** Eight times the longest header known, that of a vocabulary of 262,144 tokens. */
const maxHeaderBytes = 64 * 2 ** 20;
const replacementCharacter = "\ufffd";

/**
 * Reads little-endian values one after another through a window of 4 MiB. Nothing is allocated for
 * a length before it is known to fit in what is left of the header.
 */
export class GgufCursor {
  /** What is being read, for errors; the caller sets it. */
  what = "the header";

  readonly #source: HeaderSource;
  readonly #end: number;
  #window = Buffer.alloc(0);
  #windowStart = 0;
  #next = 0;

  constructor(source: HeaderSource) {
    this.#source = source;
    this.#end = Math.min(source.size, maxHeaderBytes);
  }

  /** Bytes from the start of the file to the next value. */
  get position(): number {
    return this.#windowStart + this.#next;
  }

  u32(): number {
    return this.#window.readUInt32LE(this.#take(4));
  }

  /** @throws EngineError CHECKPOINT_INVALID above 2^53 - 1: no file is that large. */
  u64(): number {
    const at = this.#take(8);
    const high = this.#window.readUInt32LE(at + 4);
    if (high >= 2 ** 21) {
      const fact = `${this.#window.readBigUInt64LE(at)} is more than any file holds`;
      throw this.#invalid(fact, 8);
    }
    return high * 2 ** 32 + this.#window.readUInt32LE(at);
  }

  /** A view into the window, valid until the next read. */
  bytes(byteLength: number): Buffer {
    const start = this.#take(byteLength);
    return this.#window.subarray(start, start + byteLength);
  }

  string(): string {
    const byteLength = this.u64();
    const start = this.#take(byteLength);
    const end = start + byteLength;
    const text = this.#window.toString("utf8", start, end);
    // The decoder replaces what is not UTF-8; only then is the slower check needed.
    if (text.includes(replacementCharacter) && !isUtf8(this.#window.subarray(start, end))) {
      throw this.#invalid("a string is not valid UTF-8", byteLength);
    }
    return text;
  }

  /**
   * A number of items that follow, each of at least `itemBytes`.
   *
   * @throws EngineError CHECKPOINT_INVALID when they cannot fit or exceed `maxCount`.
   */
  count(itemBytes: number, maxCount = Number.MAX_SAFE_INTEGER): number {
    const count = this.u64();
    if (count > maxCount) throw this.#invalid(`${count} items exceed the limit of ${maxCount}`, 8);
    if (count * itemBytes > this.#end - this.position) throw this.#cut(count * itemBytes);
    return count;
  }

  /** @returns the index in the window of `byteLength` bytes, which are consumed. */
  #take(byteLength: number): number {
    if (this.#next + byteLength > this.#window.length) this.#refill(byteLength);
    const start = this.#next;
    this.#next += byteLength;
    return start;
  }

  #refill(byteLength: number): void {
    const start = this.position;
    if (byteLength > this.#end - start) throw this.#cut(byteLength);
    const window = Buffer.allocUnsafe(
      Math.min(Math.max(byteLength, pieceBytes), this.#end - start),
    );
    this.#source.read(window, start);
    this.#window = window;
    this.#windowStart = start;
    this.#next = 0;
  }

  #cut(byteLength: number) {
    const { file, size } = this.#source;
    const place = { file, offset: this.position };
    return size > maxHeaderBytes
      ? invalidCheckpoint(
          place,
          `${this.what} takes ${byteLength} bytes, which exceeds the limit of ${maxHeaderBytes} for a header`,
        )
      : invalidCheckpoint(
          place,
          `${this.what} takes ${byteLength} bytes, but the file ends at ${size}`,
          "The file is truncated: download it again.",
        );
  }

  #invalid(fact: string, bytesBack: number) {
    const place = { file: this.#source.file, offset: this.position - bytesBack };
    return invalidCheckpoint(place, `${this.what}: ${fact}`);
  }
}
