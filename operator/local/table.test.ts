import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { formatAge, formatTable } from "./table.ts";

describe("formatTable", () => {
  it("makes each column as wide as its widest cell, without trailing blanks", () => {
    assert.equal(
      formatTable(
        ["NAME", "AGE"],
        [
          ["a-long-name", "5s"],
          ["b", "10m"],
        ],
      ),
      "NAME          AGE\na-long-name   5s\nb             10m\n",
    );
  });
});

describe("formatAge", () => {
  it("writes ages as kubectl does", () => {
    const now = 1_000_000_000_000;
    const ages = [0, 119, 120, 185, 599, 600, 10_799, 10_800, 172_799, 172_800, 864_000];

    assert.deepEqual(
      ages.map((seconds) => formatAge(new Date(now - seconds * 1_000).toISOString(), now)),
      ["0s", "119s", "2m", "3m5s", "9m59s", "10m", "179m", "3h", "47h", "2d", "10d"],
    );
    assert.equal(formatAge(undefined, now), "-");
    assert.equal(formatAge(new Date(now + 5_000).toISOString(), now), "0s");
  });
});
