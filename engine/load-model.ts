/** From a model's URI to an engine that serves it, telling how far it has come. */
import { openCheckpoint } from "./checkpoint/checkpoint.ts";
import { resolveModel } from "./checkpoint/sources.ts";
import { tensorFloats } from "./checkpoint/tensor-floats.ts";
import type { EngineConfig } from "./config/config.ts";
import type { StartupReport } from "./contract.ts";
import { type DeviceOptions, greedySampling, type LoadProgress } from "./device.ts";
import { ModelText } from "./model-text.ts";
import { endTokenIds } from "./models/end-tokens.ts";
import { generationDefaults } from "./models/generation-defaults.ts";
import type { Model } from "./models/model-spec.ts";
import { buildModel } from "./models/registry.ts";
import { openChatTemplate } from "./text/chat-template.ts";
import { openTokenizer } from "./text/tokenizer.ts";
import { type RunningEngine, startEngine } from "./thread/engine-client.ts";

export interface LoadedModel {
  readonly running: RunningEngine;
  readonly text: ModelText;
  readonly model: Model;
  /** What the source's branch or tag stood for. */
  readonly revision: string | undefined;
}

export interface LoadModelOptions {
  readonly config: EngineConfig;
  readonly cacheDir: string;
  readonly hubToken: string | undefined;
  readonly onReport: (report: StartupReport) => void;
  readonly signal: AbortSignal;
}

const progressPollMs = 100;

/** @throws EngineError whatever is wrong with the source, the files, the model or the machine */
export async function loadModel(options: LoadModelOptions): Promise<LoadedModel> {
  const { config, onReport } = options;
  const { path, revision } = await resolveModel(config.model, {
    cacheDir: options.cacheDir,
    onProgress: onReport,
    signal: options.signal,
    ...(config.revision === "" ? {} : { revision: config.revision }),
    ...(config.checksum === "" ? {} : { checksum: config.checksum }),
    ...(options.hubToken === undefined ? {} : { token: options.hubToken }),
  });
  const checkpoint = await openCheckpoint(path);
  const model = buildModel(checkpoint, {
    readFloats: (entry) => tensorFloats(checkpoint, entry),
    ...(config.maxModelLen === 0 ? {} : { maxModelLen: config.maxModelLen }),
  });
  const tokenizer = openTokenizer(checkpoint);
  const text = new ModelText({
    tokenizer,
    chatTemplate: openChatTemplate(checkpoint, tokenizer.specialTokens),
    vocabularySize: model.spec.vocabSize,
    endTokenIds: endTokenIds(checkpoint, (token) => tokenizer.addedTokenId(token)),
    samplingDefaults: generationDefaults(checkpoint),
  });
  const running = await startDevice(config, model, onReport);
  await warmUp(running, onReport);
  return { running, text, model, revision };
}

async function startDevice(
  config: EngineConfig,
  model: Model,
  onReport: (report: StartupReport) => void,
): Promise<RunningEngine> {
  const progress: LoadProgress = new BigInt64Array(new SharedArrayBuffer(16));
  const report = (): void => {
    const [doneBytes, totalBytes] = [Number(progress[0]), Number(progress[1])];
    onReport({ phase: "Loading", doneBytes, totalBytes, message: "Loading weights" });
  };
  const timer = setInterval(report, progressPollMs);
  try {
    report();
    return await startEngine({
      model,
      deviceOptions: deviceOptions(config, model),
      limits: {
        maxWaitingRequests: config.maxWaitingRequests,
        // As many prompt tokens as that many requests of full length would bring.
        maxWaitingTokens: Math.max(1, config.maxWaitingRequests) * model.spec.contextLength,
        targetItlMs: config.targetItlMs,
        prefixCaching: config.enablePrefixCaching,
      },
      driverModule: new URL("./native/driver.ts", import.meta.url).href,
      progress,
    });
  } finally {
    clearInterval(timer);
  }
}

function deviceOptions(config: EngineConfig, model: Model): DeviceOptions {
  return {
    // There is one backend on a machine without a GPU, and the CUDA addon says where it is missing.
    backend: config.backend === "cuda" ? "cuda" : "cpu",
    tensorParallel: config.tensorParallelSize,
    threads: config.threads,
    cpuIsa: config.cpuIsa,
    dtype: config.dtype,
    blockSize: config.blockSize,
    maxModelLen: config.maxModelLen === 0 ? model.spec.contextLength : config.maxModelLen,
    maxRows: config.maxNumSeqs,
    maxBatchedTokens: config.maxNumBatchedTokens,
    blockCount: config.blockCount,
    memoryBytes: config.memoryBytes,
  };
}

/** One token of one prompt: the first request should not pay for cold caches and pages. */
async function warmUp(
  { engine }: RunningEngine,
  onReport: (report: StartupReport) => void,
): Promise<void> {
  onReport({ phase: "Warming", doneBytes: 0, totalBytes: 0, message: "Computing a first token" });
  const generation = engine.generate({
    promptTokenIds: Int32Array.of(0, 1, 2),
    sampling: greedySampling,
    maxTokens: 2,
    stopTokenIds: new Int32Array(0),
    priority: 0,
    cacheSalt: "warm-up",
  });
  for await (const _ of generation);
}
