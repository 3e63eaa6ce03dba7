import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Rule, Schema } from "../../crds/schema.ts";
import { CelRules } from "./cel-rules.ts";

const message = "it is wrong: mend it";

describe("CelRules", () => {
  const truths: readonly string[] = [
    "quantity('500m').compareTo(quantity('0.5')) == 0",
    "quantity('1Gi').compareTo(quantity('1G')) == 1",
    "quantity('1k').compareTo(quantity('1Ki')) == -1",
    "self.n == 3 && self.n / 2 == 1",
    "self.text + '!' == 'x!'",
    "self.on && size(self.list) == 2 && 2 in self.list",
    "self.labels.all(key, key.startsWith('l'))",
    "!has(self.hidden) && !has(self.absent)",
  ];
  for (const rule of truths) {
    it(`finds that ${rule}`, () => assert.deepEqual(check({ rule, message }), []));
  }

  it("tells fact and remedy of a broken rule, at its place", () => {
    assert.deepEqual(check({ rule: "self.n == 4", message, fieldPath: ".n.m" }), [
      { path: ["outer", "n", "m"], message: "it is wrong", remedy: "mend it" },
    ]);
  });

  it("computes a message, whose last colon begins the remedy", () => {
    const messageExpression = "'n: %d: make it 4'.format([self.n])";

    const [problem] = check({ rule: "self.n == 4", messageExpression });

    assert.deepEqual([problem?.message, problem?.remedy], ["n: 3", "make it 4"]);
  });

  it("refuses a message without a remedy", () => {
    assert.throws(() => check({ rule: "false", message: "wrong" }), /has no remedy/);
  });

  it("refuses a rule that has no answer", () => {
    assert.throws(() => check({ rule: "self.absent.more", message }), /self\.absent\.more has no/);
    assert.throws(() => check({ rule: "self.n", message }), /has no answer/);
  });

  it("refuses a message that is no text", () => {
    assert.throws(() => check({ rule: "false", messageExpression: "1" }), /has no answer/);
  });

  describe("of a change", () => {
    const rule = { rule: "self >= oldSelf", message };
    const number: Schema = { type: "integer", "x-kubernetes-validations": [rule] };
    const schema: Schema = {
      type: "object",
      properties: {
        n: number,
        list: { type: "array", items: number },
        map: { type: "object", additionalProperties: number },
      },
    };
    const broken = (value: unknown, old: unknown) =>
      new CelRules().check(schema, value, old).map(({ path }) => path);

    it("compares with the value before", () => {
      assert.deepEqual(broken({ n: 1 }, { n: 2 }), [["n"]]);
      assert.deepEqual(broken({ n: 2 }, { n: 1 }), []);
      assert.deepEqual(broken({ map: { a: 1 } }, { map: { a: 2 } }), [["map", "a"]]);
    });

    it("says nothing of what is new", () => {
      assert.deepEqual(broken({ n: 1 }, undefined), []);
      assert.deepEqual(broken({ n: 1 }, {}), []);
    });

    it("says nothing of items, which have no identity", () => {
      assert.deepEqual(broken({ list: [1] }, { list: [2] }), []);
    });
  });
});

function check(rule: Rule): ReturnType<CelRules["check"]> {
  const outer: Schema = {
    type: "object",
    "x-kubernetes-validations": [rule],
    properties: {
      n: { type: "integer" },
      text: { type: "string" },
      on: { type: "boolean" },
      list: { type: "array", items: { type: "integer" } },
      labels: { type: "object", additionalProperties: { type: "string" } },
      absent: { type: "object" },
    },
  };
  const value = { n: 3, text: "x", on: true, list: [1, 2], labels: { l: "1" }, hidden: 1 };
  return new CelRules().check(
    { type: "object", properties: { outer } },
    { outer: value },
    undefined,
  );
}
