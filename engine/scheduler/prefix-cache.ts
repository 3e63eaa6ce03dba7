/**
 * Which block holds which tokens.
 *
 * A full block is known by a 64-bit hash that chains over all blocks before it, the first link being
 * the salt, so that one lookup per block finds the longest cached prefix:
 *
 *     salt ─► h0 = mix(salt, tokens 0..B) ─► h1 = mix(h0, tokens B..2B) ─► …
 *
 * The seed is random per process, and the block's token ids and the hash before it are compared on
 * every hit: neither chance nor a chosen prompt makes one request read another's block.
 *
 * The table is open addressing over block ids with linear probing; deleting shifts the run back, so
 * there are no tombstones. At most one block per hash: a second one with equal tokens stays unknown.
 */
export type HashBlock = (
  into: Int32Array,
  from: Int32Array,
  tokens: Int32Array,
  first: number,
  end: number,
) => void;

export class PrefixCache {
  readonly blockSize: number;
  readonly #hashBlock: HashBlock;
  readonly #mask: number;
  /** Block ids, -1 where empty. */
  readonly #table: Int32Array;
  /** `[blocks, 2]` hash of a block and of the block before it. */
  readonly #hashes: Int32Array;
  readonly #parents: Int32Array;
  /** `[blocks, blockSize]` */
  readonly #tokens: Int32Array;

  constructor(blockCount: number, blockSize: number, hashBlock: HashBlock = mixBlock) {
    this.blockSize = blockSize;
    this.#hashBlock = hashBlock;
    const tableSize = 2 ** Math.ceil(Math.log2(Math.max(2, blockCount * 2)));
    this.#mask = tableSize - 1;
    this.#table = new Int32Array(tableSize).fill(-1);
    this.#hashes = new Int32Array(blockCount * 2);
    this.#parents = new Int32Array(blockCount * 2);
    this.#tokens = new Int32Array(blockCount * blockSize);
  }

  /**
   * Extends a chain of links from `linkCount` links on, as far as full blocks of tokens go.
   *
   * @param links `[1 + blocks, 2]`; link 0 is the salt, link i + 1 the hash of block i
   */
  extendChain(
    links: Int32Array,
    linkCount: number,
    tokens: Int32Array,
    tokenCount: number,
  ): number {
    const fullBlocks = Math.floor(tokenCount / this.blockSize);
    for (let block = linkCount - 1; block < fullBlocks; block++) {
      const from = links.subarray(block * 2, block * 2 + 2);
      const into = links.subarray(block * 2 + 2, block * 2 + 4);
      this.#hashBlock(into, from, tokens, block * this.blockSize, (block + 1) * this.blockSize);
    }
    return Math.max(linkCount, fullBlocks + 1);
  }

  /** The block that holds block `index` of this chain, or -1. */
  find(links: Int32Array, index: number, tokens: Int32Array): number {
    for (let place = this.#placeOf(links[index * 2 + 2] as number); ; place = this.#after(place)) {
      const block = this.#table[place] as number;
      if (block === -1 || this.#holds(block, links, index, tokens)) return block;
    }
  }

  /**
   * Remembers that `block` holds block `index` of this chain.
   *
   * @returns false if another block is known for it
   */
  insert(block: number, links: Int32Array, index: number, tokens: Int32Array): boolean {
    if (this.find(links, index, tokens) !== -1) return false;
    let place = this.#placeOf(links[index * 2 + 2] as number);
    while (this.#table[place] !== -1) place = this.#after(place);
    this.#table[place] = block;
    for (let lane = 0; lane < 2; lane++) {
      this.#parents[block * 2 + lane] = links[index * 2 + lane] as number;
      this.#hashes[block * 2 + lane] = links[index * 2 + 2 + lane] as number;
    }
    const first = index * this.blockSize;
    this.#tokens.set(tokens.subarray(first, first + this.blockSize), block * this.blockSize);
    return true;
  }

  /** Forgets a block that is about to hold other tokens. */
  forget(block: number): void {
    let hole = this.#placeOf(this.#hashes[block * 2] as number);
    while (this.#table[hole] !== block) hole = this.#after(hole);
    // Shift back every later entry of the run whose own place does not lie behind the hole.
    for (let place = this.#after(hole); this.#table[place] !== -1; place = this.#after(place)) {
      const moved = this.#table[place] as number;
      const home = this.#placeOf(this.#hashes[moved * 2] as number);
      if (((place - home) & this.#mask) < ((place - hole) & this.#mask)) continue;
      this.#table[hole] = moved;
      hole = place;
    }
    this.#table[hole] = -1;
  }

  #holds(block: number, links: Int32Array, index: number, tokens: Int32Array): boolean {
    for (let lane = 0; lane < 2; lane++) {
      if (this.#hashes[block * 2 + lane] !== links[index * 2 + 2 + lane]) return false;
      if (this.#parents[block * 2 + lane] !== links[index * 2 + lane]) return false;
    }
    const mine = block * this.blockSize;
    const theirs = index * this.blockSize;
    for (let i = 0; i < this.blockSize; i++) {
      if (this.#tokens[mine + i] !== tokens[theirs + i]) return false;
    }
    return true;
  }

  #placeOf(hash: number): number {
    return hash & this.#mask;
  }

  #after(place: number): number {
    return (place + 1) & this.#mask;
  }
}

/** Two 32-bit lanes with different multipliers, each finished so that every bit depends on all. */
export function mixBlock(
  into: Int32Array,
  from: Int32Array,
  tokens: Int32Array,
  first: number,
  end: number,
): void {
  let a = from[0] as number;
  let b = from[1] as number;
  for (let i = first; i < end; i++) {
    const token = tokens[i] as number;
    a = Math.imul(a ^ token, 0x9e3779b1);
    a ^= a >>> 15;
    b = Math.imul((b << 13) | (b >>> 19), 0x85ebca77) + Math.imul(token, 0xc2b2ae3d);
    b ^= b >>> 13;
  }
  into[0] = finish(a ^ b);
  into[1] = finish(Math.imul(b, 0x27d4eb2f) + a);
}

/** The chain's first link: two 32-bit lanes of the salt under the process's random seed. */
export function hashSalt(salt: string, seed: Int32Array): Int32Array {
  const units = Int32Array.from({ length: salt.length }, (_, i) => salt.charCodeAt(i));
  const link = new Int32Array(2);
  mixBlock(link, seed, units, 0, units.length);
  return link;
}

/** Finalizer of MurmurHash3 (Appleby): a bijection in which each bit flips half of the others. */
function finish(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
