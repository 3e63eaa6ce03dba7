import type { BlockPool } from "./block-pool.ts";

/**
 * The device's rows and their block tables, as the scheduler knows them.
 *
 * A row that its request gave up may still be written by a step in flight, so closing it names the
 * last step that touches it (its fence), and row and blocks return when that step has retired.
 *
 * Invariant, checked by `assertConsistent`: every row is exactly one of free, open and fenced, and
 * each block has as many references as there are tables that list it.
 */
export class RowTable {
  readonly #pool: BlockPool;
  readonly #maxBlocks: number;
  /** `[maxRows, maxBlocks]` */
  readonly #blocks: Int32Array;
  /** `[maxRows]` blocks in use; -1 marks a free row. */
  readonly #counts: Int32Array;
  /** `[maxRows]` the step after which a closed row returns. */
  readonly #fences: Float64Array;
  readonly #free: number[];
  readonly #fenced: number[] = [];

  constructor(maxRows: number, maxBlocks: number, pool: BlockPool) {
    this.#pool = pool;
    this.#maxBlocks = maxBlocks;
    this.#blocks = new Int32Array(maxRows * maxBlocks);
    this.#counts = new Int32Array(maxRows).fill(-1);
    this.#fences = new Float64Array(maxRows);
    this.#free = Array.from({ length: maxRows }, (_, i) => maxRows - 1 - i);
  }

  get freeCount(): number {
    return this.#free.length;
  }

  get fencedCount(): number {
    return this.#fenced.length;
  }

  /** No row is open or fenced. */
  get isEmpty(): boolean {
    return this.#free.length === this.#counts.length;
  }

  open(): number {
    const row = this.#free.pop();
    if (row === undefined) throw new Error("a row is opened while none is free");
    this.#counts[row] = 0;
    return row;
  }

  blockCount(row: number): number {
    return this.#counts[row] as number;
  }

  blockAt(row: number, index: number): number {
    return this.#blocks[row * this.#maxBlocks + index] as number;
  }

  /** A view of the row's table from `firstIndex` on; valid until the row grows or closes. */
  blocksFrom(row: number, firstIndex: number): Int32Array {
    const start = row * this.#maxBlocks;
    return this.#blocks.subarray(start + firstIndex, start + this.blockCount(row));
  }

  /** Takes over one reference to `block`. */
  append(row: number, block: number): void {
    const count = this.blockCount(row);
    if (count === this.#maxBlocks) throw new Error(`row ${row} exceeds ${this.#maxBlocks} blocks`);
    this.#blocks[row * this.#maxBlocks + count] = block;
    this.#counts[row] = count + 1;
  }

  /** Gives the row up; its blocks return once step `fence` has retired. */
  close(row: number, fence: number, retiredStep: number): void {
    this.#fences[row] = fence;
    if (fence <= retiredStep) this.#release(row);
    else this.#fenced.push(row);
  }

  /** Returns the rows whose fence has been passed. */
  retire(step: number): void {
    for (let i = this.#fenced.length - 1; i >= 0; i--) {
      const row = this.#fenced[i] as number;
      if ((this.#fences[row] as number) > step) continue;
      this.#fenced.splice(i, 1);
      this.#release(row);
    }
  }

  #release(row: number): void {
    for (let i = this.blockCount(row) - 1; i >= 0; i--) this.#pool.release(this.blockAt(row, i));
    this.#counts[row] = -1;
    this.#free.push(row);
  }

  /**
   * @param openRows the rows of the running requests
   * @throws Error naming the row or block and the rule that it breaks
   */
  assertConsistent(openRows: readonly number[]): void {
    const uses = new Uint8Array(this.#counts.length);
    for (const row of [...openRows, ...this.#fenced, ...this.#free]) {
      uses[row] = (uses[row] as number) + 1;
    }
    const wrong = uses.findIndex((count) => count !== 1);
    if (wrong !== -1) throw new Error(`row ${wrong} has ${uses[wrong]} owners`);
    const held = new Int32Array(this.#pool.blockCount);
    for (const row of [...openRows, ...this.#fenced]) {
      for (const block of this.blocksFrom(row, 0)) held[block] = (held[block] as number) + 1;
    }
    for (let block = 0; block < held.length; block++) {
      if (held[block] === this.#pool.references(block)) continue;
      throw new Error(
        `block ${block} has ${this.#pool.references(block)} references and ${held[block]} holders`,
      );
    }
  }
}
