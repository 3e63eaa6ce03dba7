import assert from "node:assert/strict";
import { mkdtempSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { type DeviceOptions, lastSampled } from "../device.ts";
import { EngineError, type EngineErrorCode } from "../errors.ts";
import { ReferenceForward } from "../models/reference-forward.ts";
import {
  elementOf,
  logSoftmax,
  openDevice,
  openRequest,
  runAlone,
  runTogether,
  type SampledToken,
  someOptions,
  someSampling,
  submitChunks,
  type TestRequest,
  waitForSamples,
} from "./device-testing.ts";
import { loadDeviceDriver } from "./load.ts";
import { aRope, aSpec, TinyModel } from "./tiny-model.ts";

const plain = { biases: false, headNorms: false, postNorms: false, tied: false };
const prompt = [3, 14, 15, 9, 26, 5, 35, 8, 9, 7, 9, 32, 38, 4, 6, 26, 43, 38, 32, 7, 9, 5, 0];

const models = {
  "a plain model": new TinyModel(aSpec(), plain),
  "biases, head norms, adjacent pairs, windows, multipliers, tied": new TinyModel(
    aSpec({
      ropeLayout: "adjacent",
      layers: [
        { window: 5, rope: 0 },
        { window: 0, rope: 0 },
        { window: 17, rope: 0 },
      ],
      embeddingScale: 3,
      residualScale: 0.4,
      logitScale: 0.25,
      attentionScale: 0.2,
    }),
    { biases: true, headNorms: true, postNorms: false, tied: true },
  ),
  "post norms, norm offset, gelu, softcaps, partial rope, two ropes": new TinyModel(
    aSpec({
      normOffset: 1,
      activation: "gelu_tanh",
      ropes: [aRope(4, 100), aRope(3, 1000, 1.3)],
      layers: [
        { window: 4, rope: 0 },
        { window: 0, rope: 1 },
      ],
      attentionSoftcap: 2,
      logitSoftcap: 5,
    }),
    { biases: false, headNorms: true, postNorms: true, tied: true },
  ),
};
const plainModel = models["a plain model"];

after(() => {
  for (const tiny of Object.values(models)) tiny.remove();
});

describe("a device's forward pass", () => {
  for (const [name, tiny] of Object.entries(models)) {
    it(`is that of a float64 reference: ${name}`, () => {
      const device = openDevice(tiny.model);
      openRequest(device, { row: 2, promptTokenIds: prompt, count: 0 });

      for (const [position, expected] of referenceLogprobs(tiny, prompt).entries()) {
        const tokenIds = [elementOf(prompt, position)];
        submitChunks(device, [{ row: 2, start: position, tokenIds, samples: true }]);
        const { top, tokenId } = elementOf(waitForSamples(device), 0);
        assert.equal(tokenId, expected.indexOf(Math.max(...expected)));
        for (const [id, logprob] of top) {
          // float32: two or three layers of sums of up to 56 terms.
          assert.ok(Math.abs(logprob - elementOf(expected, id)) < 5e-5, `position ${position}`);
        }
      }
      device.close();
    });

    it(`stays near it in bfloat16: ${name}`, () => {
      const device = openDevice(tiny.model, { dtype: "bfloat16" });
      const [sampled] = runAlone(device, { row: 0, promptTokenIds: prompt, count: 1 });
      const expected = elementOf(referenceLogprobs(tiny, prompt), prompt.length - 1);

      for (const [id, logprob] of sampled?.top ?? []) {
        // bfloat16: 8 bits of mantissa in weights, activations and cache.
        assert.ok(Math.abs(logprob - elementOf(expected, id)) < 0.25, `token ${id}: ${logprob}`);
      }
      device.close();
    });
  }
});

describe("a request's result", () => {
  const request: TestRequest = {
    row: 1,
    promptTokenIds: prompt,
    count: 12,
    sampling: someSampling({
      temperature: 0.9,
      topP: 0.95,
      seed: 99n,
      repetitionPenalty: 1.2,
      frequencyPenalty: 0.5,
    }),
  };

  for (const dtype of ["float32", "bfloat16"] as const) {
    for (const [name, tiny] of Object.entries(models)) {
      it(`does not depend on chunks, threads or the rest of the batch: ${dtype}, ${name}`, () => {
        const alone = resultOf(tiny, { dtype, threads: 1 }, [request]);

        for (const threads of [1, 2]) {
          for (const chunkSize of [1, 2, 3, 5, 8, 16, 22]) {
            const chunked = resultOf(tiny, { dtype, threads }, [{ ...request, chunkSize }]);
            assert.deepEqual(chunked, alone, `chunks of ${chunkSize}, ${threads} threads`);
          }
          const together = resultOf(tiny, { dtype, threads }, [
            { row: 3, promptTokenIds: [1, 2, 3], count: 20 },
            { ...request, chunkSize: 7 },
            { row: 0, promptTokenIds: [...prompt, ...prompt, ...prompt], count: 9, chunkSize: 40 },
          ]);
          assert.deepEqual(together, alone, `in a batch, ${threads} threads`);
        }
      });
    }
  }

  it("does not depend on chunks where a step outgrows the tiles that work is cut into", () => {
    const promptTokenIds = Array.from({ length: 600 }, (_, i) => (i * i + 3 * i) % 90);
    const options = { maxModelLen: 640, maxBatchedTokens: 600, blockCount: 160 };
    const long = { row: 1, promptTokenIds, count: 3 };
    const [whole, chunked] = [600, 90].map((chunkSize) => {
      const device = openDevice(plainModel.model, options);
      const results = runTogether(device, [{ ...long, chunkSize }], 40);
      device.close();
      return results;
    });

    assert.deepEqual(whole, chunked);
  });

  it("is the same with the device's own last token and with explicit ones", () => {
    const last = resultOf(plainModel, {}, [request]);
    const explicit = resultOf(plainModel, {}, [{ ...request, explicitTokens: true }]);

    assert.deepEqual(explicit, last);
  });

  it("goes on after preemption as if nothing had happened", () => {
    const whole = resultOf(plainModel, {}, [request]);
    const generated = whole.slice(0, 7).map(({ tokenId }) => tokenId);
    const rest = resultOf(plainModel, {}, [{ ...request, generated, count: 5, chunkSize: 6 }]);

    assert.deepEqual(rest, whole.slice(7));
  });

  it("owes nothing to the request that had the row before", () => {
    const other = { ...request, promptTokenIds: [1, 4, 9, 16, 25], count: 12 };
    const device = openDevice(plainModel.model);
    runAlone(device, other);
    const second = runAlone(device, request);
    device.close();

    assert.deepEqual(second, resultOf(plainModel, {}, [request]));
  });

  it("depends on the seed", () => {
    const other = { ...request, sampling: { ...someSampling(request.sampling), seed: 100n } };

    assert.notDeepEqual(resultOf(plainModel, {}, [other]), resultOf(plainModel, {}, [request]));
  });

  it("is the same over two ranks, up to the order of sums", () => {
    const greedy = { row: 1, promptTokenIds: prompt, count: 12 };
    const one = resultOf(plainModel, {}, [greedy]);
    const two = resultOf(plainModel, { tensorParallel: 2 }, [greedy]);

    assert.deepEqual(
      two.map(({ tokenId }) => tokenId),
      one.map(({ tokenId }) => tokenId),
    );
  });
});

describe("steps in flight", () => {
  it("may be two, the second going on from a token that nobody knows yet", () => {
    const stepped = resultOf(plainModel, {}, [{ row: 0, promptTokenIds: prompt, count: 6 }]);

    const device = openDevice(plainModel.model);
    openRequest(device, { row: 0, promptTokenIds: prompt, count: 0 });
    submitChunks(device, [{ row: 0, start: 0, tokenIds: prompt, samples: true }]);
    const ahead: SampledToken[] = [];
    for (let i = 0; i < 5; i++) {
      const start = prompt.length + i;
      submitChunks(device, [{ row: 0, start, tokenIds: [lastSampled], samples: true }]);
      ahead.push(...waitForSamples(device));
    }
    ahead.push(...waitForSamples(device));
    device.close();

    assert.deepEqual(ahead, stepped);
  });

  it("keep their rows when a row is opened anew behind them", () => {
    const old = { row: 0, promptTokenIds: prompt, count: 1 };
    const next = { row: 0, promptTokenIds: [1, 2, 3, 4], count: 1 };
    const expected = [old, next].map((request) => resultOf(plainModel, {}, [request]));

    const device = openDevice(plainModel.model);
    openRequest(device, old);
    submitChunks(device, [{ row: 0, start: 0, tokenIds: prompt, samples: true }]);
    openRequest(device, next);
    device.setBlocks(0, 0, Int32Array.of(30));
    submitChunks(device, [{ row: 0, start: 0, tokenIds: next.promptTokenIds, samples: true }]);
    const both = [waitForSamples(device), waitForSamples(device)];
    device.close();

    assert.deepEqual(both, expected);
  });

  it("report no sample for a chunk that ends inside its prompt", () => {
    const device = openDevice(plainModel.model);
    openRequest(device, { row: 0, promptTokenIds: prompt, count: 0 });
    submitChunks(device, [{ row: 0, start: 0, tokenIds: prompt.slice(0, 5), samples: false }]);

    assert.deepEqual(waitForSamples(device), []);
    device.close();
  });
});

describe("the driver's errors", () => {
  const driver = loadDeviceDriver("cpu", undefined);
  const plan = (changes: Partial<DeviceOptions>) => () =>
    driver.plan(plainModel.model, someOptions(changes));

  it("name a backend that was not built, and how to build it", () => {
    const directory = mkdtempSync(path.join(tmpdir(), "quire-none-"));
    assertFails(() => loadDeviceDriver("cpu", directory), "DEVICE_UNAVAILABLE", /not built/);
    assertFails(() => loadDeviceDriver("cuda", directory), "DEVICE_UNAVAILABLE", /cuda/);
    writeFileSync(path.join(directory, "quire_cpu.node"), "not a library");
    assertFails(() => loadDeviceDriver("cpu", directory), "DEVICE_UNAVAILABLE", /does not load/);
  });

  it("hold memory needs against what there is", () => {
    assertFails(plan({ memoryBytes: 100_000 }), "DEVICE_OUT_OF_MEMORY", /weights .*\n.*workspace/);
    assertFails(plan({ blockCount: 2 ** 31 - 1 }), "DEVICE_OUT_OF_MEMORY", /2147483647 blocks/);
  });

  it("name a setting that cannot be", () => {
    assertFails(plan({ tensorParallel: 3 }), "CONFIG_INVALID", /3 does not divide/);
    assertFails(plan({ maxRows: 0 }), "CONFIG_INVALID", /maxRows is 0, allowed are 1 to/);
    assertFails(plan({ blockSize: 17 }), "CONFIG_INVALID", /blockSize is 17/);
    assertFails(plan({ maxModelLen: 1.5 }), "CONFIG_INVALID", /maxModelLen is not a whole number/);
  });

  it("name the tensor of a file that is too short", () => {
    const tiny = new TinyModel(aSpec(), plain);
    truncateSync(elementOf(tiny.model.files, 0), 1000);
    assertFails(() => openDevice(tiny.model), "CHECKPOINT_INVALID", /tensor .*ends at byte 1000/);
    tiny.remove();
  });

  it("name row and block of a table that points outside the cache", () => {
    const device = openDevice(plainModel.model);
    openRequest(device, { row: 3, promptTokenIds: prompt, count: 0 });
    device.setBlocks(3, 1, Int32Array.of(32));
    submitChunks(device, [{ row: 3, start: 0, tokenIds: prompt, samples: true }]);

    assertFails(() => device.wait(), "DEVICE_FAILED", /row 3: block 32 at index 1/);
    device.close();
  });

  it("come for arguments of another type, and after close", () => {
    const device = openDevice(plainModel.model);
    const wrong = new Float32Array(3) as unknown as Int32Array;
    assertFails(
      () => device.setBlocks(0, 0, wrong),
      "CONFIG_INVALID",
      /blocks is not an Int32Array/,
    );
    assertFails(() => device.wait(), "CONFIG_INVALID", /no step is in flight/);
    device.close();
    assertFails(() => device.wait(), "CONFIG_INVALID", /closed/);
  });
});

describe("the plan", () => {
  const driver = loadDeviceDriver("cpu", undefined);

  it("is what an opened device holds", () => {
    const device = openDevice(plainModel.model);
    const plan = driver.plan(plainModel.model, someOptions());

    // What is free changes from one moment to the next.
    assert.deepEqual({ ...plan, availableBytes: 0 }, { ...device.plan, availableBytes: 0 });
    assert.equal(device.info.backend, "cpu");
    assert.match(device.info.description, /^float32 \(\w+\), 2 threads$/);
    device.close();
  });

  it("adds up, and leaves the rest of the memory to blocks", () => {
    const plan = driver.plan(
      plainModel.model,
      someOptions({ blockCount: 0, memoryBytes: 10_000_000 }),
    );
    const fixed = plan.weightBytes + plan.workspaceBytes + plan.samplerBytes;

    assert.equal(plan.totalBytes, fixed + plan.blockCount * plan.kvBlockBytes);
    assert.ok(plan.totalBytes <= 10_000_000);
    assert.ok(plan.totalBytes + plan.kvBlockBytes > 10_000_000);
  });
});

it("the addon serves several threads of one process at once", async () => {
  const workers = [1, 2, 3].map(
    () =>
      new Worker(new URL("./device-worker.ts", import.meta.url), { workerData: plainModel.model }),
  );
  const exits = workers.map((worker) => new Promise((resolve) => worker.on("message", resolve)));
  const expected = resultOf(plainModel, {}, [{ row: 0, promptTokenIds: prompt, count: 8 }]);

  for (const answer of await Promise.all(exits)) assert.deepEqual(answer, expected);
});

function resultOf(
  tiny: TinyModel,
  changes: Partial<DeviceOptions>,
  requests: readonly TestRequest[],
): SampledToken[] {
  const device = openDevice(tiny.model, changes);
  const results = runTogether(device, requests);
  device.close();
  // The request that the test is about stands in row 1, or is the only one.
  return elementOf(results, requests.length === 1 ? 0 : requests.findIndex(({ row }) => row === 1));
}

/** Log-probabilities of the next token after each token. */
function referenceLogprobs(tiny: TinyModel, tokenIds: readonly number[]): number[][] {
  const forward = new ReferenceForward(tiny.model, (slice) => tiny.bytesOf(slice));
  return forward.logits(tokenIds).map(logSoftmax);
}

function assertFails(act: () => unknown, code: EngineErrorCode, message: RegExp): void {
  assert.throws(act, (error) => {
    assert.ok(error instanceof EngineError);
    assert.equal(error.code, code);
    assert.match(error.message, message);
    assert.notEqual(error.remedy, "");
    return true;
  });
}
