import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Job, JobResult, PeerMessage } from "./peer.ts";

/** An engine in a process of its own. */
export class PeerProcess {
  readonly description: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, description: string) {
    this.#child = child;
    this.description = description;
  }

  /** @throws Error when the process ends before its engine is loaded */
  static async start(module: URL, args: readonly string[]): Promise<PeerProcess> {
    const child = fork(fileURLToPath(module), [...args]);
    const message = await nextMessage(child);
    if (message.kind !== "ready") throw new Error(`${module} began with ${message.kind}`);
    return new PeerProcess(child, message.description);
  }

  async run(job: Job): Promise<JobResult> {
    this.#child.send(job);
    const message = await nextMessage(this.#child);
    if (message.kind !== "result") throw new Error(`an engine answered a job with ${message.kind}`);
    return message.result;
  }

  /** By force: an engine has nothing to save. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }
}

async function nextMessage(child: ChildProcess): Promise<PeerMessage> {
  const ended = new AbortController();
  try {
    const [message] = await Promise.race([
      once(child, "message", { signal: ended.signal }),
      once(child, "exit", { signal: ended.signal }).then(([code]) => {
        throw new Error(`an engine's process ended with ${code}`);
      }),
    ]);
    return message as PeerMessage;
  } finally {
    ended.abort();
  }
}
