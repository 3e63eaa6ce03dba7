/**
 * Who holds the blocks of the paged KV cache.
 *
 * A block holds the keys and values of `blockSize` consecutive tokens for every layer. Requests with
 * a common prefix share blocks, so each carries a reference count. A block without references is
 * either free or, when the prefix cache remembers its tokens, idle: reclaimable, least recently used
 * first. Every operation takes constant time and allocates nothing.
 *
 * Invariant, checked by `assertConsistent`: every block is exactly one of held, idle and free.
 */
export class BlockPool {
  readonly blockCount: number;
  readonly #references: Int32Array;
  /** 1 where the prefix cache remembers the block. */
  readonly #cached: Uint8Array;
  readonly #free: Int32Array;
  #freeCount: number;
  /** Idle blocks from oldest to newest, a ring through the sentinel at index `blockCount`. */
  readonly #newer: Int32Array;
  readonly #older: Int32Array;
  #idleCount = 0;
  readonly #onEvict: (block: number) => void;

  /** @param onEvict called with an idle block that is about to be handed out for other tokens */
  constructor(blockCount: number, onEvict: (block: number) => void) {
    this.blockCount = blockCount;
    this.#onEvict = onEvict;
    this.#references = new Int32Array(blockCount);
    this.#cached = new Uint8Array(blockCount);
    // Descending, so that block 0 goes out first and a trace reads naturally.
    this.#free = Int32Array.from({ length: blockCount }, (_, i) => blockCount - 1 - i);
    this.#freeCount = blockCount;
    this.#newer = new Int32Array(blockCount + 1).fill(blockCount);
    this.#older = new Int32Array(blockCount + 1).fill(blockCount);
  }

  /** Blocks that hold nothing anybody remembers. */
  get freeCount(): number {
    return this.#freeCount;
  }

  /** Reclaimable blocks that the prefix cache remembers. */
  get idleCount(): number {
    return this.#idleCount;
  }

  get heldCount(): number {
    return this.blockCount - this.#freeCount - this.#idleCount;
  }

  /** Blocks that `allocate` can hand out. */
  get availableCount(): number {
    return this.#freeCount + this.#idleCount;
  }

  references(block: number): number {
    return this.#references[block] as number;
  }

  /** Takes one block with a count of one: a free one, else the oldest idle one; -1 if all are held. */
  allocate(): number {
    let block: number;
    if (this.#freeCount > 0) {
      this.#freeCount -= 1;
      block = this.#free[this.#freeCount] as number;
    } else if (this.#idleCount > 0) {
      block = this.#newer[this.blockCount] as number;
      this.#unlink(block);
      this.#cached[block] = 0;
      this.#onEvict(block);
    } else {
      return -1;
    }
    this.#references[block] = 1;
    return block;
  }

  /** Adds a reference to a block that is held or idle. */
  share(block: number): void {
    const references = this.#references[block] as number;
    if (references === 0) this.#unlink(block);
    this.#references[block] = references + 1;
  }

  /**
   * Drops a reference. Release a request's blocks last to first: idle blocks are evicted in the
   * order they came, and a tail without its head is of no use.
   */
  release(block: number): void {
    const references = this.#references[block] as number;
    if (references === 0) throw new Error(`block ${block} is released without being held`);
    this.#references[block] = references - 1;
    if (references > 1) return;
    if (this.#cached[block] === 1) this.#linkNewest(block);
    else this.#free[this.#freeCount++] = block;
  }

  /** The prefix cache remembers this held block: it becomes idle, not free, when nobody holds it. */
  markCached(block: number): void {
    if (this.#references[block] === 0)
      throw new Error(`block ${block} is cached without being held`);
    this.#cached[block] = 1;
  }

  /** @throws Error naming the block and the rule that it breaks */
  assertConsistent(): void {
    const seen = new Uint8Array(this.blockCount);
    for (let i = 0; i < this.#freeCount; i++) this.#see(seen, this.#free[i] as number, "free", 0);
    let idle = 0;
    const sentinel = this.blockCount;
    for (let b = this.#newer[sentinel] as number; b !== sentinel; b = this.#newer[b] as number) {
      this.#see(seen, b, "idle", 1);
      idle += 1;
    }
    if (idle !== this.#idleCount)
      throw new Error(`${idle} idle blocks, counted ${this.#idleCount}`);
    for (let block = 0; block < this.blockCount; block++) {
      if (seen[block] === 0 && this.references(block) <= 0) {
        throw new Error(`block ${block} is neither held nor idle nor free`);
      }
    }
  }

  #see(seen: Uint8Array, block: number, place: string, cached: number): void {
    if (seen[block] === 1) throw new Error(`block ${block} is ${place} and listed twice`);
    if (this.references(block) !== 0) {
      throw new Error(`block ${block} is ${place} with ${this.references(block)} references`);
    }
    if (this.#cached[block] !== cached) {
      throw new Error(`block ${block} is ${place}, and the prefix cache says ${1 - cached}`);
    }
    seen[block] = 1;
  }

  #linkNewest(block: number): void {
    const sentinel = this.blockCount;
    const last = this.#older[sentinel] as number;
    this.#newer[last] = block;
    this.#older[block] = last;
    this.#newer[block] = sentinel;
    this.#older[sentinel] = block;
    this.#idleCount += 1;
  }

  #unlink(block: number): void {
    const newer = this.#newer[block] as number;
    const older = this.#older[block] as number;
    this.#newer[older] = newer;
    this.#older[newer] = older;
    this.#idleCount -= 1;
  }
}
