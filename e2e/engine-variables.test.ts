import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { readConfig, settings } from "../engine/config/config.ts";
import { podTemplate } from "../operator/reconcile/pod-template.ts";
import { aService } from "../operator/reconcile/testing.ts";

describe("the variables of a pod", () => {
  const template = podTemplate(
    aService({
      model: {
        uri: "file:///models/m.gguf",
        revision: "v1",
        checksum: "sha256:00",
        name: "m",
        aliases: ["default"],
      },
      engine: {
        dtype: "bfloat16",
        maxModelLen: 4_096,
        maxSeqs: 8,
        maxBatchedTokens: 512,
        targetItlMs: 20,
        prefixCaching: false,
        blockSize: 16,
        threads: 3,
      },
      resources: { gpu: { count: 0, resourceName: "nvidia.com/gpu" } },
      parallelism: { tensor: 2 },
      drain: { timeout: "90s" },
    }),
  );

  it("are settings of the engine", () => {
    const known = new Set(Object.values(settings).map(({ env }) => env));
    const unknown = template.env.filter(({ name }) => !known.has(name));

    assert.deepEqual(unknown, []);
  });

  it("reach it as the spec has them", () => {
    const env = Object.fromEntries(template.env.map(({ name, value }) => [name, value]));
    const { model, revision, checksum, servedModelName, backend, dtype, ...rest } = readConfig(
      env,
      [],
    );

    assert.deepEqual(
      { model, revision, checksum, servedModelName, backend, dtype },
      {
        model: "/models/m.gguf",
        revision: "v1",
        checksum: "sha256:00",
        servedModelName: ["m", "default"],
        backend: "cpu",
        dtype: "bfloat16",
      },
    );
    assert.equal(rest.maxModelLen, 4_096);
    assert.equal(rest.maxNumSeqs, 8);
    assert.equal(rest.maxNumBatchedTokens, 512);
    assert.equal(rest.targetItlMs, 20);
    assert.equal(rest.enablePrefixCaching, false);
    assert.equal(rest.blockSize, 16);
    assert.equal(rest.threads, 3);
    assert.equal(rest.tensorParallelSize, 2);
    assert.equal(rest.drainTimeoutSeconds, 90);
  });
});
