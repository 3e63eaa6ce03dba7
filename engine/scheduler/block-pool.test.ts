import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BlockPool } from "./block-pool.ts";

describe("BlockPool", () => {
  it("hands out every block once, lowest first, and then none", () => {
    const { pool } = aPool(3);

    assert.deepEqual(take(pool, 4), [0, 1, 2, -1]);
    assert.equal(pool.heldCount, 3);
    assert.equal(pool.availableCount, 0);
    pool.assertConsistent();
  });

  it("takes a block back only when its last holder releases it", () => {
    const { pool } = aPool(1);
    take(pool, 1);
    pool.share(0);

    pool.release(0);
    assert.equal(pool.freeCount, 0);
    pool.release(0);

    assert.equal(pool.freeCount, 1);
    pool.assertConsistent();
  });

  it("keeps a cached block idle, and revives it when it is shared", () => {
    const { pool, evicted } = aPool(2);
    take(pool, 1);
    pool.markCached(0);
    pool.release(0);
    assert.deepEqual([pool.idleCount, pool.freeCount, pool.heldCount], [1, 1, 0]);

    pool.share(0);

    assert.deepEqual([pool.idleCount, pool.freeCount, pool.heldCount], [0, 1, 1]);
    assert.equal(pool.references(0), 1);
    assert.deepEqual(evicted, []);
    pool.assertConsistent();
  });

  it("hands out free blocks before idle ones, and these oldest first", () => {
    const { pool, evicted } = aPool(4);
    take(pool, 3);
    for (const block of [0, 1, 2]) pool.markCached(block);
    for (const block of [1, 2, 0]) pool.release(block);

    assert.deepEqual(take(pool, 3), [3, 1, 2]);
    assert.deepEqual(evicted, [1, 2]);
    pool.assertConsistent();
  });

  it("treats a block that was evicted as any other", () => {
    const { pool } = aPool(1);
    take(pool, 1);
    pool.markCached(0);
    pool.release(0);
    take(pool, 1);

    pool.release(0);

    assert.equal(pool.idleCount, 0);
    assert.equal(pool.freeCount, 1);
    pool.assertConsistent();
  });

  it("takes an idle block out of the middle of the order", () => {
    const { pool } = aPool(3);
    take(pool, 3);
    for (const block of [0, 1, 2]) pool.markCached(block);
    for (const block of [0, 1, 2]) pool.release(block);

    pool.share(1);

    assert.deepEqual(take(pool, 3), [0, 2, -1]);
    pool.assertConsistent();
  });

  it("refuses to release or cache what nobody holds", () => {
    const { pool } = aPool(1);

    assert.throws(() => pool.release(0), /block 0 is released without being held/);
    assert.throws(() => pool.markCached(0), /block 0 is cached without being held/);
  });
});

function aPool(blockCount: number): { pool: BlockPool; evicted: number[] } {
  const evicted: number[] = [];
  return { pool: new BlockPool(blockCount, (block) => evicted.push(block)), evicted };
}

function take(pool: BlockPool, count: number): number[] {
  return Array.from({ length: count }, () => pool.allocate());
}
