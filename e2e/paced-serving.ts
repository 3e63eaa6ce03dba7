/** The whole endpoint in this process, over a device that only takes its time. */
import type { AddressInfo } from "node:net";
import { openCheckpoint } from "../engine/checkpoint/checkpoint.ts";
import type { Engine } from "../engine/generation.ts";
import { ModelText } from "../engine/model-text.ts";
import { buildApp } from "../engine/server/app.ts";
import { Lifecycle } from "../engine/server/lifecycle.ts";
import { openTokenizer } from "../engine/text/tokenizer.ts";
import { startEngine } from "../engine/thread/engine-client.ts";
import { fakeModel } from "./fake-device.ts";
import { tinyModel } from "./serving.ts";

export interface PacedServing extends AsyncDisposable {
  readonly engine: Engine;
  /** With `/v1`. */
  readonly url: string;
}

const maxModelLen = 4096;
const blockSize = 64;
const vocabularySize = 320;

/** Serves the model `tiny`: `rows` requests at once, each step of which takes `stepMs`. */
export async function startPacedServing(rows: number, stepMs: number): Promise<PacedServing> {
  const running = await startEngine({
    model: fakeModel,
    deviceOptions: {
      ...{ backend: "cpu", tensorParallel: 1, threads: 1, cpuIsa: "auto", dtype: "auto" },
      ...{ blockSize, maxModelLen, maxRows: rows, maxBatchedTokens: 8192, memoryBytes: 0 },
      blockCount: (rows * maxModelLen) / blockSize,
    },
    limits: {
      maxWaitingRequests: rows,
      maxWaitingTokens: rows * maxModelLen,
      targetItlMs: 0,
      prefixCaching: false,
    },
    driverModule: new URL(`./fake-paced-device.ts?stepMs=${stepMs}`, import.meta.url).href,
  });
  const lifecycle = new Lifecycle();
  const text = new ModelText({
    tokenizer: openTokenizer(await openCheckpoint(tinyModel)),
    ...{ chatTemplate: undefined, vocabularySize, endTokenIds: [2], samplingDefaults: {} },
  });
  lifecycle.serve({ engine: running.engine, text, modelNames: ["tiny"], createdSeconds: 1 });
  const limits = {
    ...{ maxBodyBytes: 1 << 20, maxChoices: 1 },
    ...{ maxStreamBufferBytes: 1 << 20, stallTimeoutSeconds: 60 },
  };
  const app = await buildApp({
    lifecycle,
    limits,
    apiKeys: undefined,
    version: "0",
    logger: false,
  });
  await app.listen({ host: "127.0.0.1", port: 0 });
  const { port } = app.server.address() as AddressInfo;
  return {
    engine: running.engine,
    url: `http://127.0.0.1:${port}/v1`,
    async [Symbol.asyncDispose]() {
      await app.close();
      await running.close();
    },
  };
}
