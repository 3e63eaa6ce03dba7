/** An engine without a model: it answers as `engine/contract.ts` says, and behaves as it is told. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import {
  engineMetrics,
  enginePaths,
  enginePort,
  type StartupReport,
  type TerminationMessage,
} from "../../engine/contract.ts";
import type { Behaviour } from "./behaviour.ts";
import type { Container } from "./container.ts";
import type { Ending } from "./pod-status.ts";

/** A behaviour, and since when it is in force. */
export interface Instruction {
  readonly behaviour: Behaviour;
  readonly sinceMs: number;
}

const kvTokensTotal = 100_000;
const totalBytes = 1_000_000_000;
const crashMessage: TerminationMessage = {
  code: "MODEL_UNSUPPORTED",
  message: "the model's architecture FakeForCausalLM is not known",
  remedy: "Name a model of a known architecture.",
};

export class FakeContainer implements Container {
  readonly startedAtMs: number;
  readonly #instruction: () => Instruction;
  /** Whether it was started before, in the same pod. */
  readonly #restarted: boolean;
  readonly #server: Server;
  #terminatedAtMs: number | undefined;

  private constructor(instruction: () => Instruction, restarted: boolean, startedAtMs: number) {
    this.#instruction = instruction;
    this.#restarted = restarted;
    this.startedAtMs = startedAtMs;
    this.#server = createServer((request, response) => this.#answer(request, response));
  }

  static async start(
    address: string,
    restarted: boolean,
    instruction: () => Instruction,
  ): Promise<FakeContainer> {
    const container = new FakeContainer(instruction, restarted, Date.now());
    container.#server.listen(enginePort, address);
    await once(container.#server, "listening");
    return container;
  }

  ready(nowMs: number): boolean {
    return nowMs >= this.startedAtMs + this.#behaviour.loadMs && this.#terminatedAtMs === undefined;
  }

  ending(nowMs: number): Ending | undefined {
    if (nowMs < this.#endMs()) return undefined;
    const times = { startedAtMs: this.startedAtMs, finishedAtMs: this.#endMs() };
    if (this.#terminatedAtMs !== undefined) {
      return { reason: "Completed", exitCode: 0, message: "", ...times };
    }
    return this.#behaviour.end?.cause === "oom"
      ? { reason: "OOMKilled", exitCode: 137, message: "", ...times }
      : { reason: "Error", exitCode: 1, message: JSON.stringify(crashMessage), ...times };
  }

  nextChangeMs(nowMs: number): number {
    const readyMs = this.startedAtMs + this.#behaviour.loadMs;
    return Math.min(this.#endMs(), readyMs > nowMs ? readyMs : Number.POSITIVE_INFINITY) - nowMs;
  }

  terminate(nowMs: number): void {
    this.#terminatedAtMs ??= nowMs;
  }

  async kill(): Promise<void> {
    if (!this.#server.listening) return;
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, "close");
  }

  get #behaviour(): Behaviour {
    return this.#instruction().behaviour;
  }

  #endMs(): number {
    const { behaviour, sinceMs } = this.#instruction();
    if (this.#terminatedAtMs !== undefined) return this.#terminatedAtMs + behaviour.drainMs;
    const { end, once: onlyOnce } = behaviour;
    if (end === undefined || (onlyOnce && this.#restarted)) return Number.POSITIVE_INFINITY;
    return Math.max(this.startedAtMs, sinceMs) + end.afterMs;
  }

  #answer({ url }: IncomingMessage, response: ServerResponse): void {
    if (this.#behaviour.silent) return;
    if (url === enginePaths.metrics) {
      response.writeHead(200, { "content-type": "text/plain; version=0.0.4" });
      response.end(this.#metrics());
      return;
    }
    const [status, body] = this.#answerOf(url);
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(body));
  }

  #answerOf(url: string | undefined): [status: number, body: object] {
    const ageMs = Date.now() - this.startedAtMs;
    switch (url) {
      case enginePaths.live:
        return [200, {}];
      case enginePaths.ready:
        return [this.ready(Date.now()) ? 200 : 503, {}];
      case enginePaths.startup:
        return [
          ageMs >= this.#behaviour.loadMs ? 200 : 503,
          startupReport(ageMs, this.#behaviour.loadMs),
        ];
      default:
        return [404, { error: { message: `a fake engine has no ${url}` } }];
    }
  }

  #metrics(): string {
    const { load } = this.#behaviour;
    const steps = Math.floor((Date.now() - this.startedAtMs) / 10);
    const values = {
      [engineMetrics.kvTokensInUse]: Math.round(load.kv * kvTokensTotal),
      [engineMetrics.kvTokensTotal]: kvTokensTotal,
      [engineMetrics.runningRequests]: load.running,
      [engineMetrics.waitingRequests]: load.waiting,
      [engineMetrics.waitingPromptTokens]: load.waiting * 100,
      [engineMetrics.receivedRequests]: steps,
      [engineMetrics.steps]: steps,
      [engineMetrics.prefillTokensPerSecond]: 5_000,
      [engineMetrics.decodeTokensPerSecond]: 500,
      [engineMetrics.draining]: Number(this.#terminatedAtMs !== undefined),
    };
    return Object.entries(values)
      .map(([name, value]) => `# TYPE ${name} gauge\n${name} ${value}\n`)
      .join("");
  }
}

function startupReport(ageMs: number, loadMs: number): StartupReport {
  if (ageMs >= loadMs) return { phase: "Serving", doneBytes: 0, totalBytes: 0, message: "" };
  const doneBytes = Math.floor((totalBytes * ageMs) / loadMs);
  return { phase: "Loading", doneBytes, totalBytes, message: "reading weights" };
}
