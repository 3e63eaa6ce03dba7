/**
 * What the two engines of a comparison have in common: each is a process that answers jobs, one at
 * a time, and idles while it is the other's turn.
 */
import { cpuSeconds } from "./machine.ts";

/** Greedy answers to prompts that are all there at once. */
export interface Job {
  readonly prompts: readonly (readonly number[])[];
  /** Tokens of each answer, whatever they are: nothing ends it early. */
  readonly outputLength: number;
}

export interface Answer {
  readonly tokenIds: readonly number[];
  /** From the start of the job to its first and last token. */
  readonly firstMs: number;
  readonly lastMs: number;
}

export interface JobResult {
  readonly answers: readonly Answer[];
  /** Seconds of processor time of the whole process. */
  readonly cpuSeconds: number;
}

export type PeerMessage =
  | { readonly kind: "ready"; readonly description: string }
  | { readonly kind: "result"; readonly result: JobResult };

export interface PeerEngine {
  readonly description: string;
  /** The answer to one of the job's prompts, token by token. */
  answer(prompt: readonly number[], index: number, outputLength: number): AsyncIterable<number>;
}

/** What a job sends at most at once. */
export const maxPrompts = 8;
/** Tokens of one prompt and its answer at most. */
export const maxLength = 768;

/** Tells the parent process that the engine is loaded, and runs the jobs that it sends. */
export function answerJobs(engine: PeerEngine): void {
  process.on("message", (job: Job) => void runJob(engine, job).then(send));
  process.on("disconnect", () => process.exit(0));
  send({ kind: "ready", description: engine.description });
}

async function runJob(engine: PeerEngine, job: Job): Promise<PeerMessage> {
  const startCpu = cpuSeconds();
  const startMs = performance.now();
  const answers = await Promise.all(
    job.prompts.map(async (prompt, index): Promise<Answer> => {
      const tokenIds: number[] = [];
      let firstMs = 0;
      for await (const tokenId of engine.answer(prompt, index, job.outputLength)) {
        if (tokenIds.length === 0) firstMs = performance.now() - startMs;
        tokenIds.push(tokenId);
      }
      return { tokenIds, firstMs, lastMs: performance.now() - startMs };
    }),
  );
  return { kind: "result", result: { answers, cpuSeconds: cpuSeconds() - startCpu } };
}

function send(message: PeerMessage): void {
  process.send?.(message);
}
