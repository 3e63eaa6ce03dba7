import { BlockPool } from "./block-pool.ts";
import { PrefixCache } from "./prefix-cache.ts";
import type { Request } from "./request.ts";
import { RowTable } from "./row-table.ts";

interface KvCacheLimits {
  readonly blockCount: number;
  readonly blockSize: number;
  readonly maxRows: number;
  readonly maxModelLen: number;
  readonly prefixCaching: boolean;
}

/** Places requests in the paged KV cache: rows, their blocks, and what the blocks are known to hold. */
export class KvCache {
  readonly pool: BlockPool;
  readonly rows: RowTable;
  readonly #blockSize: number;
  readonly #prefixes: PrefixCache;
  readonly #prefixCaching: boolean;
  /** Blocks that the last `findPrefix` found. */
  readonly #hits: Int32Array;

  constructor(limits: KvCacheLimits) {
    const { blockCount, blockSize, maxRows, maxModelLen } = limits;
    const maxBlocks = Math.ceil(maxModelLen / blockSize);
    this.#blockSize = blockSize;
    this.#prefixCaching = limits.prefixCaching;
    this.#prefixes = new PrefixCache(blockCount, blockSize);
    this.pool = new BlockPool(blockCount, (block) => this.#prefixes.forget(block));
    this.rows = new RowTable(maxRows, maxBlocks, this.pool);
    this.#hits = new Int32Array(maxBlocks);
  }

  /**
   * Leading blocks of the known tokens that the cache holds. The last token is never among them:
   * its logits are what the next token is sampled from.
   */
  findPrefix(request: Request): number {
    const { tokens, links, tokenCount } = request;
    request.linkCount = this.#prefixes.extendChain(links, request.linkCount, tokens, tokenCount);
    const limit = Math.floor((tokenCount - 1) / this.#blockSize);
    for (let i = 0; i < limit; i++) {
      const block = this.#prefixes.find(links, i, tokens);
      if (block === -1) return i;
      this.#hits[i] = block;
    }
    return limit;
  }

  /** Blocks that `open` would take from the available ones after `findPrefix` found `hitBlocks`. */
  demand(request: Request, hitBlocks: number): number {
    let blocks = Math.ceil(request.tokenCount / this.#blockSize) - hitBlocks;
    for (let i = 0; i < hitBlocks; i++) {
      if (this.pool.references(this.#hits[i] as number) === 0) blocks += 1;
    }
    return blocks;
  }

  /** Gives the request a row with blocks for all known tokens, the first ones as just found. */
  open(request: Request, hitBlocks: number): void {
    const blocks = Math.ceil(request.tokenCount / this.#blockSize);
    request.row = this.rows.open();
    for (let i = 0; i < hitBlocks; i++) {
      const block = this.#hits[i] as number;
      this.pool.share(block);
      this.rows.append(request.row, block);
    }
    for (let i = hitBlocks; i < blocks; i++) this.rows.append(request.row, this.pool.allocate());
    request.computedCount = hitBlocks * this.#blockSize;
    request.offeredBlocks = hitBlocks;
  }

  /** Whether the row's blocks have room for the request's first `tokenCount` tokens. */
  covers(request: Request, tokenCount: number): boolean {
    return tokenCount <= this.rows.blockCount(request.row) * this.#blockSize;
  }

  /** Adds one block to the request's row, if one is available. */
  grow(request: Request): boolean {
    const block = this.pool.allocate();
    if (block !== -1) this.rows.append(request.row, block);
    return block !== -1;
  }

  /** Lets the prefix cache know of blocks that are full of known tokens and scheduled to be written. */
  offer(request: Request): void {
    if (!this.#prefixCaching) return;
    const { tokens, links } = request;
    const full = Math.floor(Math.min(request.computedCount, request.tokenCount) / this.#blockSize);
    if (request.offeredBlocks >= full) return;
    const written = full * this.#blockSize;
    request.linkCount = this.#prefixes.extendChain(links, request.linkCount, tokens, written);
    for (let i = request.offeredBlocks; i < full; i++) {
      const block = this.rows.blockAt(request.row, i);
      if (this.#prefixes.insert(block, links, i, tokens)) this.pool.markCached(block);
    }
    request.offeredBlocks = full;
  }

  /** @throws Error naming the rule that is broken; see `BlockPool` and `RowTable` */
  assertConsistent(running: Iterable<Request>): void {
    const rows: number[] = [];
    for (const request of running) {
      rows.push(request.row);
      if (!this.covers(request, request.computedCount)) {
        throw new Error(
          `request ${request.index} computed ${request.computedCount} past its blocks`,
        );
      }
    }
    this.pool.assertConsistent();
    this.rows.assertConsistent(rows);
  }
}
