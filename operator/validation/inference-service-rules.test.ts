import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { serviceCases } from "./inference-service-rules-testing.ts";
import { describeRules, validated } from "./rule-testing.ts";

const model = { uri: "hf://owner/name" };

describeRules("InferenceService", "inferenceservice.yaml", serviceCases);

describe("the rule on names", () => {
  it("accepts names that fit a Service", () => {
    for (const name of ["a", "granite-8b", "a".repeat(40)]) {
      const { problems } = validated("InferenceService", { model }, name);
      assert.deepEqual(problems, [], name);
    }
  });

  it("rejects others with their length", () => {
    for (const name of ["a".repeat(41), "8b", "Granite", "a-", "a.b"]) {
      const { problems } = validated("InferenceService", { model }, name);
      assert.equal(problems.length, 1, name);
      assert.deepEqual(problems[0]?.path, ["metadata", "name"]);
      assert.ok(problems[0]?.message.includes(`"${name}" (${name.length} characters)`));
    }
  });
});
