import http from "node:http";
import { enginePaths, enginePort, type StartupReport } from "../../engine/contract.ts";
import { readSample } from "../autoscaler/scrape.ts";
import type { ReplicaSample } from "../autoscaler/window.ts";
import type { PodProblem } from "../reconcile/observed-pod.ts";
import type { EngineSignals } from "./observe-pod.ts";
import type { Pod } from "./pod-manifest.ts";

/** Longest wait for one engine: less than a tick, so that a slow one delays nobody. */
const timeoutMs = 800;
const maxAnswerBytes = 1024 * 1024;
// Enough for thousands of engines in a second, few enough for one process.
const maxAtOnce = 128;
/** Loading has no deadline, standing still has. */
const stallDeadlineMs = 300_000;

interface Reading {
  sample?: ReplicaSample;
  startup?: StartupReport;
  /** When the report last changed. */
  progressMs?: number;
}

/** Reads what engines say of themselves, and remembers it by the uid of their pods. */
export class EngineReader {
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 1, timeout: 30_000 });
  readonly #port: number;
  readonly #readings = new Map<string, Reading>();

  constructor(port = enginePort) {
    this.#port = port;
  }

  /** Asks every pod that has an address once; returns when all have answered or had their time. */
  async read(pods: readonly Pod[], nowMs: () => number): Promise<void> {
    const alive = new Set(pods.map(({ metadata }) => metadata.uid ?? ""));
    for (const uid of this.#readings.keys()) if (!alive.has(uid)) this.#readings.delete(uid);
    const queue = pods.filter(({ status }) => status?.podIP && status.phase === "Running");
    const next = async () => {
      for (let pod = queue.pop(); pod !== undefined; pod = queue.pop()) {
        await this.#readOne(pod, nowMs);
      }
    };
    await Promise.all(Array.from({ length: Math.min(maxAtOnce, queue.length) }, next));
  }

  sampleOf(uid: string | undefined): ReplicaSample | undefined {
    return this.#readings.get(uid ?? "")?.sample;
  }

  signalsOf(uid: string | undefined, nowMs: number): EngineSignals {
    const { sample, startup, progressMs } = this.#readings.get(uid ?? "") ?? {};
    if (sample !== undefined) {
      return { inFlight: sample.runningRequests + sample.waitingRequests };
    }
    if (startup === undefined || progressMs === undefined) return {};
    const stalled = stallOf(startup, nowMs - progressMs);
    return { startup, inFlight: 0, ...(stalled === undefined ? {} : { stalled }) };
  }

  close(): void {
    this.#agent.destroy();
  }

  async #readOne(pod: Pod, nowMs: () => number): Promise<void> {
    const uid = pod.metadata.uid ?? "";
    const reading = this.#readings.get(uid) ?? {};
    this.#readings.set(uid, reading);
    const hasServed = isReady(pod) || reading.sample !== undefined;
    await (hasServed
      ? this.#readLoad(pod, reading, nowMs)
      : this.#readStartup(pod, reading, nowMs));
  }

  async #readLoad(pod: Pod, reading: Reading, nowMs: () => number): Promise<void> {
    const text = await this.#get(pod, enginePaths.metrics);
    const sample = text === undefined ? undefined : readSample(pod.metadata.name, text, nowMs());
    if (sample !== undefined) reading.sample = sample;
    // A restarted engine loads again, and its last sample is another life's.
    else if (!isReady(pod)) delete reading.sample;
  }

  async #readStartup(pod: Pod, reading: Reading, nowMs: () => number): Promise<void> {
    const report = parseReport(await this.#get(pod, enginePaths.startup));
    if (report === undefined) return;
    if (JSON.stringify(report) !== JSON.stringify(reading.startup)) reading.progressMs = nowMs();
    reading.startup = report;
  }

  /** @returns `undefined` where there is no whole answer in time. */
  #get({ status }: Pod, path: string): Promise<string | undefined> {
    const host = status?.podIP ?? "";
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    const request = http.get(
      { host, port: this.#port, path, agent: this.#agent, signal: AbortSignal.timeout(timeoutMs) },
      (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          text += chunk;
          if (text.length > maxAnswerBytes) request.destroy();
        });
        response.on("end", () => resolve(text));
        response.on("close", () => resolve(undefined));
      },
    );
    request.on("error", () => resolve(undefined));
    return promise;
  }
}

function isReady({ status }: Pod): boolean {
  return (status?.conditions ?? []).some((one) => one.type === "Ready" && one.status === "True");
}

function stallOf({ phase, message }: StartupReport, quietMs: number): PodProblem | undefined {
  if (phase === "Serving" || phase === "Failed" || quietMs < stallDeadlineMs) return undefined;
  const reason = phase === "Downloading" ? "DownloadStalled" : "LoadStalled";
  const last = message === "" ? phase : `${phase}: ${message}`;
  const text = `no progress for ${Math.floor(quietMs / 1_000)} s (${last}). Read its log, or delete the pod to begin anew.`;
  return { reason, message: text };
}

function parseReport(text: string | undefined): StartupReport | undefined {
  if (text === undefined) return undefined;
  try {
    const value = JSON.parse(text) as Partial<StartupReport> | null;
    const isReport = typeof value?.phase === "string" && typeof value.message === "string";
    return isReport ? (value as StartupReport) : undefined;
  } catch (error) {
    // Whatever listens on the port is not, or not yet, an engine.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
