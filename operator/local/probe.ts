import type { StartupReport } from "../../engine/contract.ts";
import { enginePaths } from "../../engine/contract.ts";

/** `silent`: no answer in time, or none at all. */
export type ProbeResult = "yes" | "no" | "silent";

/** Asks one engine on loopback, as a kubelet would. Never throws: no answer is an answer. */
export class Probe {
  readonly #origin: string;
  readonly #timeoutMs: number;

  constructor(port: number, timeoutMs: number) {
    this.#origin = `http://127.0.0.1:${port}`;
    this.#timeoutMs = timeoutMs;
  }

  live(): Promise<ProbeResult> {
    return this.#ask(enginePaths.live);
  }

  ready(): Promise<ProbeResult> {
    return this.#ask(enginePaths.ready);
  }

  /** @returns `undefined` while the engine does not listen. */
  async startup(): Promise<StartupReport | undefined> {
    const body = await this.#get(enginePaths.startup).then(
      (response) => response.json(),
      () => undefined,
    );
    return isStartupReport(body) ? body : undefined;
  }

  /** @returns the exposition text, or `undefined` when there is none in time. */
  metrics(): Promise<string | undefined> {
    return this.#get(enginePaths.metrics).then(
      (response) => (response.ok ? response.text() : undefined),
      () => undefined,
    );
  }

  #ask(path: string): Promise<ProbeResult> {
    return this.#get(path).then(
      async (response) => {
        await response.body?.cancel();
        return response.ok ? "yes" : "no";
      },
      () => "silent",
    );
  }

  #get(path: string): Promise<Response> {
    return fetch(this.#origin + path, { signal: AbortSignal.timeout(this.#timeoutMs) });
  }
}

function isStartupReport(body: unknown): body is StartupReport {
  return (
    typeof body === "object" &&
    body !== null &&
    "phase" in body &&
    typeof body.phase === "string" &&
    "doneBytes" in body &&
    "totalBytes" in body &&
    "message" in body
  );
}
