/** Quire's engine as a process of `llama-cpp-bench.ts`: `quire-peer.ts MODEL THREADS`. */

import { greedySampling } from "../device.ts";
import { startEngine } from "../thread/engine-client.ts";
import { openModelFile } from "./model-file.ts";
import { answerJobs, maxLength, maxPrompts } from "./peer.ts";

const [modelPath = "", threadsText = ""] = process.argv.slice(2);
const blockSize = 64;

const { engine, info } = await startEngine({
  model: await openModelFile(modelPath),
  deviceOptions: {
    ...{ backend: "cpu", tensorParallel: 1, cpuIsa: "auto", dtype: "auto", blockSize },
    threads: Number(threadsText),
    maxModelLen: maxLength,
    maxRows: maxPrompts,
    maxBatchedTokens: 1024,
    blockCount: (maxPrompts * maxLength) / blockSize,
    memoryBytes: 0,
  },
  limits: {
    maxWaitingRequests: maxPrompts,
    maxWaitingTokens: maxPrompts * maxLength,
    targetItlMs: 0,
    // Every round sends the same prompts.
    prefixCaching: false,
  },
  driverModule: new URL("../native/driver.ts", import.meta.url).href,
});

answerJobs({
  description: `Quire, ${info.description}`,
  async *answer(prompt, _index, outputLength) {
    const generation = engine.generate({
      promptTokenIds: Int32Array.from(prompt),
      sampling: greedySampling,
      maxTokens: outputLength,
      stopTokenIds: new Int32Array(0),
      priority: 0,
      cacheSalt: "",
    });
    for await (const { tokenIds } of generation) yield* tokenIds;
  },
});
