/** What each CEL rule of AutoscalingPolicy accepts and rejects; the API server is held to it as well. */
import { type RuleCase, targetCases } from "./rule-testing.ts";

export const policyCases: readonly RuleCase[] = [
  {
    rule: "spec#0",
    accepts: [
      { defaults: { maxReplicas: 2 }, limits: { maxReplicas: 2 } },
      { defaults: { maxReplicas: 2 }, limits: { maxGPUs: 1 } },
      { defaults: {}, limits: { maxReplicas: 2 } },
    ],
    rejects: [
      [
        { defaults: { maxReplicas: 3 }, limits: { maxReplicas: 2 } },
        "spec.defaults.maxReplicas",
        /is 3 .* is 2$/,
      ],
    ],
  },
  {
    rule: "spec#1",
    accepts: [{ namespaceSelector: {}, selector: {} }, {}],
    rejects: [[{ namespaceSelector: {} }, "spec.namespaceSelector", /selects nothing$/]],
  },
  ...(["namespaceSelector", "selector"] as const).map((name): RuleCase => {
    const requirement = (operator: string, values?: readonly string[]) => ({
      selector: {},
      [name]: { matchExpressions: [{ key: "tier", operator, ...(values && { values }) }] },
    });
    const field = `spec.${name}.matchExpressions[0]`;
    return {
      rule: `spec.${name}.matchExpressions[]#0`,
      accepts: [
        requirement("In", ["a"]),
        requirement("NotIn", ["a"]),
        requirement("Exists"),
        requirement("DoesNotExist", []),
      ],
      rejects: [
        [requirement("In"), field, /operator In .*"tier".* given$/],
        [requirement("NotIn", []), field, /operator NotIn/],
        [requirement("Exists", ["a"]), field, /operator Exists .* absent$/],
      ],
    };
  }),
  {
    rule: "spec.defaults#0",
    accepts: [{ defaults: { minReplicas: 2, maxReplicas: 2 } }, { defaults: { minReplicas: 2 } }],
    rejects: [
      [
        { defaults: { minReplicas: 3, maxReplicas: 2 } },
        "spec.defaults.minReplicas",
        /is 3 .* is 2$/,
      ],
    ],
  },
  {
    rule: "spec.algorithm#0",
    accepts: [{ algorithm: { scaleUpAt: "0.9" } }],
    rejects: [
      [{ algorithm: { scaleUpAt: "0.70" } }, "spec.algorithm.scaleDownAt", /"0\.70", not below/],
      [{ algorithm: { scaleDownAt: "0.9" } }, "spec.algorithm.scaleDownAt", /"0\.9"/],
    ],
  },
  ...(["scaleUpAt", "scaleDownAt"] as const).map((name): RuleCase => {
    // The other one steps aside, so that only this rule can be broken.
    const other = name === "scaleUpAt" ? { scaleDownAt: "0.01" } : { scaleUpAt: "1" };
    const good = name === "scaleUpAt" ? ["0.80", "1", "1.0"] : ["0.05", "0.5"];
    return {
      rule: `spec.algorithm.${name}#0`,
      accepts: good.map((value) => ({ algorithm: { ...other, [name]: value } })),
      rejects: ["80%", ".5", "-1"].map((value) => [
        { algorithm: { ...other, [name]: value } },
        `spec.algorithm.${name}`,
        /is not a fraction/,
      ]),
    };
  }),
  {
    rule: "spec.algorithm.staleAfter#0",
    accepts: ["2s", "10m"].map((staleAfter) => ({ algorithm: { staleAfter } })),
    rejects: ["1s", "11m", "5", "x"].map((staleAfter) => [
      { algorithm: { staleAfter } },
      "spec.algorithm.staleAfter",
      /is not a duration/,
    ]),
  },
  ...targetCases("spec.defaults", (defaults) => ({ defaults })),
];
