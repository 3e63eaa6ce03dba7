/**
 * A bounded queue of records between two threads: one writes, one reads, nothing is locked and
 * nothing is copied but the words themselves.
 *
 * Records are runs of 32-bit words, each behind its length. The cursors count words for ever and
 * wrap at 2^32; the capacity is a power of two. They lie on separate cache lines:
 *
 *     control  [ write cursor … | read cursor … | signal … ]   16 words each
 *     data     [ length, words …, length, words …, ]           `capacity` words
 *
 * The signal counts notifications, so that a reader that looks, finds nothing and then sleeps
 * cannot miss one.
 */
const writePlace = 0;
const readPlace = 16;
const signalPlace = 32;
const controlWords = 48;

/** @param minWords capacity; a record and its length must fit. Rounded up to a power of two */
export function createRing(minWords: number): SharedArrayBuffer {
  const capacity = 2 ** Math.ceil(Math.log2(Math.max(16, minWords)));
  return new SharedArrayBuffer((controlWords + capacity) * Int32Array.BYTES_PER_ELEMENT);
}

interface RingViews {
  readonly control: Int32Array<SharedArrayBuffer>;
  readonly data: Int32Array<SharedArrayBuffer>;
}

function viewsOf(buffer: SharedArrayBuffer): RingViews {
  const control = new Int32Array(buffer, 0, controlWords);
  const data = new Int32Array(buffer, controlWords * Int32Array.BYTES_PER_ELEMENT);
  return { control, data };
}

/** The writing end. Records are seen by the reader, and it is woken, with the next `publish`. */
export class RingWriter {
  readonly capacity: number;
  readonly #control: Int32Array<SharedArrayBuffer>;
  readonly #data: Int32Array<SharedArrayBuffer>;
  #write: number;

  constructor(buffer: SharedArrayBuffer) {
    const { control, data } = viewsOf(buffer);
    this.#control = control;
    this.#data = data;
    this.capacity = data.length;
    this.#write = Atomics.load(control, writePlace);
  }

  /** Words that can be written before the reader takes some. */
  get freeWords(): number {
    return this.capacity - ((this.#write - Atomics.load(this.#control, readPlace)) >>> 0);
  }

  /**
   * Copies the first `length` words of a record.
   *
   * @param reservedWords words that must stay free behind it
   * @returns false, and nothing happens, if there is no room
   */
  push(record: Int32Array, length: number, reservedWords = 0): boolean {
    if (length + 1 + reservedWords > this.freeWords) return false;
    const mask = this.capacity - 1;
    this.#data[this.#write & mask] = length;
    for (let i = 0; i < length; i++) {
      this.#data[(this.#write + 1 + i) & mask] = record[i] as number;
    }
    this.#write = (this.#write + 1 + length) | 0;
    return true;
  }

  publish(): void {
    Atomics.store(this.#control, writePlace, this.#write);
    Atomics.add(this.#control, signalPlace, 1);
    Atomics.notify(this.#control, signalPlace);
  }

  /** Blocks until the reader has taken something, or `timeoutMs` have passed. */
  waitForRoom(timeoutMs: number): void {
    const seen = Atomics.load(this.#control, readPlace);
    if (this.freeWords < this.capacity) Atomics.wait(this.#control, readPlace, seen, timeoutMs);
  }
}

/** The reading end. */
export class RingReader {
  /** The words of the record read last; those behind its length are left over. */
  record: Int32Array;
  readonly #control: Int32Array<SharedArrayBuffer>;
  readonly #data: Int32Array<SharedArrayBuffer>;
  #read: number;
  #seenSignal = 0;

  constructor(buffer: SharedArrayBuffer) {
    const { control, data } = viewsOf(buffer);
    this.#control = control;
    this.#data = data;
    this.#read = Atomics.load(control, readPlace);
    this.record = new Int32Array(64);
  }

  /** Copies the next record into `record` and returns its length; -1 when there is none. */
  read(): number {
    if (this.#read === Atomics.load(this.#control, writePlace)) return -1;
    const mask = this.#data.length - 1;
    const length = this.#data[this.#read & mask] as number;
    if (length > this.record.length) this.record = new Int32Array(length);
    for (let i = 0; i < length; i++) {
      this.record[i] = this.#data[(this.#read + 1 + i) & mask] as number;
    }
    this.#read = (this.#read + 1 + length) | 0;
    return length;
  }

  /** Gives the words of all records read so far back to the writer. */
  release(): void {
    if (Atomics.load(this.#control, readPlace) === this.#read) return;
    Atomics.store(this.#control, readPlace, this.#read);
    Atomics.notify(this.#control, readPlace);
  }

  /** Call before the `read` that finds nothing: `wait` then sleeps only if nothing came since. */
  armSignal(): void {
    this.#seenSignal = Atomics.load(this.#control, signalPlace);
  }

  /** Blocks until the writer publishes. Returns false if `timeoutMs` passed without. */
  wait(timeoutMs: number): boolean {
    return Atomics.wait(this.#control, signalPlace, this.#seenSignal, timeoutMs) !== "timed-out";
  }

  /** Ends a `waitAsync` of this end, for when the writer is gone. */
  wake(): void {
    Atomics.notify(this.#control, signalPlace);
  }

  /** Resolves when the writer publishes; for a thread that may not block. */
  async waitAsync(): Promise<void> {
    const waiting = Atomics.waitAsync(this.#control, signalPlace, this.#seenSignal);
    if (waiting.async) await waiting.value;
  }
}
