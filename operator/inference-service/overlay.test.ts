import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { laidOver } from "./overlay.ts";

describe("laidOver", () => {
  const cases: readonly (readonly [string, object, object, object])[] = [
    ["adds what the base lacks", { a: 1 }, { b: 2 }, { a: 1, b: 2 }],
    ["replaces values", { a: 1, b: { c: 1 } }, { a: 2, b: 3 }, { a: 2, b: 3 }],
    [
      "merges maps field by field",
      { labels: { a: "1", b: "1" } },
      { labels: { b: "2" } },
      { labels: { a: "1", b: "2" } },
    ],
    [
      "merges lists of named things by name",
      { containers: [{ name: "engine", image: "x", env: [{ name: "A", value: "1" }] }] },
      { containers: [{ name: "engine", env: [{ name: "A", value: "2" }] }, { name: "side" }] },
      {
        containers: [
          { name: "engine", image: "x", env: [{ name: "A", value: "2" }] },
          { name: "side" },
        ],
      },
    ],
    [
      "joins other lists",
      { tolerations: [{ key: "a" }], drop: ["ALL"] },
      { tolerations: [{ key: "b" }], drop: ["X"] },
      { tolerations: [{ key: "a" }, { key: "b" }], drop: ["ALL", "X"] },
    ],
    [
      "lets null and lists replace a map",
      { a: { b: 1 }, c: { d: 1 } },
      { a: null, c: [1] },
      { a: null, c: [1] },
    ],
  ];
  for (const [name, base, overlay, expected] of cases) {
    it(name, () => {
      assert.deepEqual(laidOver({ ...base }, { ...overlay }), expected);
    });
  }

  it("leaves what it was given as it is", () => {
    const base = { list: [{ name: "a", x: { y: 1 } }] };
    laidOver(base, { list: [{ name: "a", x: { y: 2 } }] });
    assert.deepEqual(base, { list: [{ name: "a", x: { y: 1 } }] });
  });
});
