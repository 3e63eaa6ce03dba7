import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Schema } from "../../crds/schema.ts";
import { withDefaults } from "./defaults.ts";

const schema: Schema = {
  type: "object",
  properties: {
    inner: { type: "object", default: {}, properties: { x: { type: "integer", default: 1 } } },
    optional: { type: "object", properties: { y: { type: "string", default: "y" } } },
    items: {
      type: "array",
      items: { type: "object", properties: { z: { type: "boolean", default: true } } },
    },
    names: { type: "array" },
  },
};

describe("withDefaults", () => {
  const cases: readonly (readonly [string, unknown, unknown])[] = [
    ["fills a default that is filled further", {}, { inner: { x: 1 } }],
    ["keeps what is given", { inner: { x: 2 } }, { inner: { x: 2 } }],
    ["reads null as absent where there is a default", { inner: null }, { inner: { x: 1 } }],
    ["drops null where there is none", { optional: null }, { inner: { x: 1 } }],
    ["makes no parent for a default", {}, { inner: { x: 1 } }],
    ["fills a parent that is given", { optional: {} }, { inner: { x: 1 }, optional: { y: "y" } }],
    [
      "fills the items of a list",
      { items: [{}, { z: false }] },
      { inner: { x: 1 }, items: [{ z: true }, { z: false }] },
    ],
    ["keeps a list without a schema", { names: [1] }, { inner: { x: 1 }, names: [1] }],
    ["keeps fields that it does not know", { other: 1 }, { other: 1, inner: { x: 1 } }],
    ["leaves alone what is no object", "text", "text"],
  ];
  for (const [title, value, expected] of cases) {
    it(title, () => assert.deepEqual(withDefaults(schema, value), expected));
  }

  it("shares no default between two objects", () => {
    const list: Schema = { type: "object", properties: { a: { type: "array", default: [1] } } };
    const [first, second] = [withDefaults(list, {}), withDefaults(list, {})] as { a: number[] }[];

    first?.a.push(2);

    assert.deepEqual(second, { a: [1] });
  });
});
