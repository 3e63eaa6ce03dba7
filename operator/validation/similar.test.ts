import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { mostSimilar } from "./similar.ts";

describe("mostSimilar", () => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ["modle", "model"],
    ["mode", "model"],
    ["Model", "model"],
    ["replica", "replicas"],
    ["relpicsa", "replicas"],
    ["engin", "engine"],
    ["xx", undefined],
    ["sealing", "scaling"],
    ["template20000", undefined],
  ];
  for (const [word, expected] of cases) {
    it(`takes ${word} for ${expected ?? "nothing known"}`, () => {
      assert.equal(
        mostSimilar(word, ["model", "engine", "replicas", "scaling", "template"]),
        expected,
      );
    });
  }

  it("prefers the closer of two", () => {
    assert.equal(mostSimilar("maxModelLn", ["maxModelLens", "maxModelLen"]), "maxModelLen");
  });
});
