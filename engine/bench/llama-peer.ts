/**
 * llama.cpp as a process of `llama-cpp-bench.ts`: `llama-peer.ts DIRECTORY MODEL THREADS`, where `run.sh` has
 * installed node-llama-cpp in the directory.
 */
import path from "node:path";
import { pathToFileURL } from "node:url";
import { answerJobs, maxLength, maxPrompts } from "./peer.ts";

/** What is used of node-llama-cpp 3.22.1, which is no dependency of Quire. */
interface NodeLlamaCpp {
  getLlama(options: {
    readonly gpu: false;
    readonly build: "never";
    readonly skipDownload: true;
    readonly maxThreads: number;
    readonly logLevel: "error";
  }): Promise<Llama>;
}

interface Llama {
  readonly llamaCppRelease: { readonly release: string };
  loadModel(options: { readonly modelPath: string }): Promise<LlamaModel>;
}

interface LlamaModel {
  createContext(options: {
    readonly sequences: number;
    readonly contextSize: number;
    readonly batchSize: number;
    readonly threads: { readonly ideal: number; readonly min: number };
  }): Promise<LlamaContext>;
}

interface LlamaContext {
  readonly flashAttention: unknown;
  getSequence(): LlamaSequence;
}

interface LlamaSequence {
  clearHistory(): Promise<void>;
  evaluate(
    tokens: readonly number[],
    options: { readonly temperature: 0; readonly yieldEogToken: true },
  ): AsyncGenerator<number>;
}

const [directory = "", modelPath = "", threadsText = ""] = process.argv.slice(2);
const threads = Number(threadsText);
const entry = path.join(directory, "node_modules/node-llama-cpp/dist/index.js");
const { getLlama } = (await import(pathToFileURL(entry).href)) as NodeLlamaCpp;
const llama = await getLlama({
  ...{ gpu: false, build: "never", skipDownload: true, logLevel: "error" },
  maxThreads: threads,
});
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({
  sequences: maxPrompts,
  contextSize: maxLength,
  // All prompts of a job fit into one batch.
  batchSize: 1024,
  threads: { ideal: threads, min: threads },
});
const sequences = Array.from({ length: maxPrompts }, () => context.getSequence());

answerJobs({
  description: `llama.cpp ${llama.llamaCppRelease.release}, flash attention ${context.flashAttention}`,
  async *answer(prompt, index, outputLength) {
    const sequence = sequences[index];
    if (sequence === undefined) throw new Error(`there is no sequence ${index}`);
    await sequence.clearHistory();
    let count = 0;
    for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
      yield token;
      count += 1;
      if (count === outputLength) return;
    }
  },
});
