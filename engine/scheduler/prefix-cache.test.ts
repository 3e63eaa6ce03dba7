import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type HashBlock, hashSalt, mixBlock, PrefixCache } from "./prefix-cache.ts";

const blockSize = 4;

describe("PrefixCache", () => {
  it("finds a block by its tokens and all tokens before them", () => {
    const cache = new PrefixCache(8, blockSize);
    const known = aChain(cache, [1, 2, 3, 4, 5, 6, 7, 8]);
    cache.insert(3, known.links, 0, known.tokens);
    cache.insert(5, known.links, 1, known.tokens);

    const same = aChain(cache, [1, 2, 3, 4, 5, 6, 7, 8]);
    const otherHead = aChain(cache, [9, 2, 3, 4, 5, 6, 7, 8]);
    const otherTail = aChain(cache, [1, 2, 3, 4, 5, 6, 7, 9]);

    assert.deepEqual([find(cache, same, 0), find(cache, same, 1)], [3, 5]);
    assert.deepEqual([find(cache, otherHead, 0), find(cache, otherHead, 1)], [-1, -1]);
    assert.deepEqual([find(cache, otherTail, 0), find(cache, otherTail, 1)], [3, -1]);
  });

  it("compares the tokens when hashes collide", () => {
    const cache = new PrefixCache(8, blockSize, collide);
    const first = aChain(cache, [1, 2, 3, 4]);
    cache.insert(0, first.links, 0, first.tokens);
    const second = aChain(cache, [1, 2, 3, 5]);

    assert.equal(find(cache, second, 0), -1);
    assert.equal(cache.insert(1, second.links, 0, second.tokens), true);
    assert.equal(find(cache, second, 0), 1);
    assert.equal(find(cache, first, 0), 0);
  });

  it("compares the hash before when hash and tokens are equal", () => {
    const cache = new PrefixCache(8, blockSize, collide);
    const tokens = [1, 2, 3, 4];
    const first = aChain(cache, tokens, [1, 2]);
    cache.insert(0, first.links, 0, first.tokens);

    assert.equal(find(cache, aChain(cache, tokens, [1, 3]), 0), -1);
    assert.equal(find(cache, aChain(cache, tokens, [2, 2]), 0), -1);
    assert.equal(find(cache, aChain(cache, tokens, [1, 2]), 0), 0);
  });

  it("compares both halves of the hash", () => {
    let high = 0;
    const cache = new PrefixCache(8, blockSize, (into) => into.set([7, high]));
    const first = aChain(cache, [1, 2, 3, 4]);
    cache.insert(0, first.links, 0, first.tokens);
    high = 1;

    assert.equal(find(cache, aChain(cache, [1, 2, 3, 4]), 0), -1);
  });

  it("knows one block per content", () => {
    const cache = new PrefixCache(8, blockSize);
    const chain = aChain(cache, [1, 2, 3, 4]);

    assert.equal(cache.insert(0, chain.links, 0, chain.tokens), true);
    assert.equal(cache.insert(1, chain.links, 0, chain.tokens), false);
    assert.equal(find(cache, chain, 0), 0);
  });

  it("finds everything else after any block is forgotten, in any order", () => {
    for (const hash of [mixBlock, collide, nearlyFull]) {
      for (let first = 0; first < 6; first++) {
        const cache = new PrefixCache(6, blockSize, hash);
        const chains = Array.from({ length: 6 }, (_, i) => aChain(cache, [i, i, i, i]));
        for (const [block, { links, tokens }] of chains.entries()) {
          cache.insert(block, links, 0, tokens);
        }
        const left = new Set([0, 1, 2, 3, 4, 5]);
        for (let i = 0; i < 6; i++) {
          const gone = (first + i * 5) % 6;
          cache.forget(gone);
          left.delete(gone);
          for (const [block, chain] of chains.entries()) {
            assert.equal(find(cache, chain, 0), left.has(block) ? block : -1);
          }
        }
      }
    }
  });

  it("extends a chain by full blocks only, from where it stood", () => {
    let hashCount = 0;
    const cache = new PrefixCache(8, blockSize, (...args) => {
      hashCount += 1;
      mixBlock(...args);
    });
    const whole = aChain(cache, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    const links = new Int32Array(8);
    const tokens = Int32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9);

    hashCount = 0;
    let linkCount = cache.extendChain(links, 1, tokens, 7);
    assert.equal(linkCount, 2);
    assert.deepEqual([...links.subarray(4)], [0, 0, 0, 0], "the second block is not full");
    linkCount = cache.extendChain(links, linkCount, tokens, 9);
    assert.equal(linkCount, 3);
    assert.equal(cache.extendChain(links, linkCount, tokens, 5), 3, "a chain does not shrink");
    assert.equal(hashCount, 2, "each block is hashed once");

    assert.deepEqual(links, whole.links);
  });
});

describe("mixBlock", () => {
  it("flips about half of the bits of each lane for any bit of any token or of the link before", () => {
    for (let token = 0; token < 5; token++) {
      for (let bit = 0; bit < 17; bit++) {
        const flips = [0, 0];
        for (let trial = 0; trial < 64; trial++) {
          const tokens = Int32Array.from({ length: 4 }, (_, i) => trial * 7919 + i * 104_729);
          const from = Int32Array.of(trial * 31, trial * 17);
          const before = mixed(from, tokens);
          if (token === 4) from[trial % 2] = (from[trial % 2] as number) ^ (1 << bit);
          else tokens[token] = (tokens[token] as number) ^ (1 << bit);
          const after = mixed(from, tokens);
          for (const lane of [0, 1] as const) {
            flips[lane] = (flips[lane] as number) + bits(before[lane] ^ after[lane]);
          }
        }
        for (const count of flips) {
          const share = count / 64 / 32;
          assert.ok(share > 0.4 && share < 0.6, `token ${token}, bit ${bit}: ${share}`);
        }
      }
    }
  });

  it("gives the two lanes values of their own", () => {
    const seen = new Set<number>();
    for (let i = 0; i < 1000; i++) {
      const [low, high] = mixed(Int32Array.of(5, 6), Int32Array.of(i, 0, 0, 0));
      seen.add(low ^ high);
    }
    assert.ok(seen.size > 990, `${seen.size} of 1000`);
  });
});

describe("hashSalt", () => {
  it("depends on the salt and on the seed", () => {
    const seed = Int32Array.of(1, 2);
    const links = [
      hashSalt("", seed),
      hashSalt("a", seed),
      hashSalt("b", seed),
      hashSalt("ab", seed),
      hashSalt("a", Int32Array.of(1, 3)),
      hashSalt("a", Int32Array.of(2, 2)),
    ].map((link) => link.join());

    assert.equal(new Set(links).size, links.length);
    assert.deepEqual(hashSalt("a", seed), hashSalt("a", Int32Array.of(1, 2)));
  });
});

interface Chain {
  readonly links: Int32Array;
  readonly tokens: Int32Array;
}

function aChain(cache: PrefixCache, tokenIds: readonly number[], salt = [0, 0]): Chain {
  const tokens = Int32Array.from(tokenIds);
  const links = new Int32Array(2 + 2 * Math.ceil(tokens.length / blockSize));
  links.set(salt);
  cache.extendChain(links, 1, tokens, tokens.length);
  return { links, tokens };
}

function find(cache: PrefixCache, chain: Chain, index: number): number {
  return cache.find(chain.links, index, chain.tokens);
}

const collide: HashBlock = (into) => {
  into.set([7, 7]);
};

/** Neighbouring places at the end of the table, so that runs wrap around. */
const nearlyFull: HashBlock = (into, _from, tokens) => {
  into.set([13 + ((tokens[0] as number) >> 1), 0]);
};

function mixed(from: Int32Array, tokens: Int32Array): [number, number] {
  const into = new Int32Array(2);
  mixBlock(into, from, tokens, 0, tokens.length);
  return [into[0] as number, into[1] as number];
}

function bits(word: number): number {
  let count = 0;
  for (let rest = word >>> 0; rest > 0; rest >>>= 1) count += rest & 1;
  return count;
}
