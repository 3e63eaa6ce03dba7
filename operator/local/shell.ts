import type { InferenceService } from "../api/inference-service.ts";
import type { ServiceEvent } from "../reconcile/events.ts";
import { servedNames } from "../reconcile/pod-template.ts";
import { type Amount, type Progress, startupAmount } from "./progress.ts";
import type { Up, UpListener } from "./up.ts";

const refreshMs = 200;

/** Tells a person at the shell what a running `quire up` does. */
export class Shell implements UpListener {
  readonly #progress: Progress;
  readonly #offersCurl: boolean;
  #timer: NodeJS.Timeout | undefined;
  readonly #greeted = new Set<string>();

  /** @param offersCurl whether to print a line to paste for each service once it serves */
  constructor(progress: Progress, offersCurl: boolean) {
    this.#progress = progress;
    this.#offersCurl = offersCurl;
  }

  /** Follows the replicas' loading until `close`. */
  follow(up: Up): void {
    this.#timer = setInterval(() => {
      this.#progress.show(loading(up));
      if (this.#offersCurl) this.#greetReady(up);
    }, refreshMs);
  }

  log(line: string): void {
    this.#progress.log(line);
  }

  onListening(address: string): void {
    this.log(`endpoint: ${address}/v1 (quire get tells what runs, Ctrl-C ends it)`);
  }

  onEvent({ metadata }: InferenceService, { type, reason, message }: ServiceEvent): void {
    this.log(`${metadata.name}: ${type === "Warning" ? "warning: " : ""}${reason}: ${message}`);
  }

  onApplied(): void {
    this.log("manifest applied");
  }

  onProblems(problems: readonly string[]): void {
    for (const problem of problems) this.log(problem);
    this.log("what ran before goes on; correct the manifest and save it again");
  }

  onError(what: string, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    this.log(`warning: ${what} failed and is tried again: ${message}`);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#progress.stop();
  }

  /** A line to paste, once for each service that serves. */
  #greetReady(up: Up): void {
    for (const service of up.store.services()) {
      const { uid = "" } = service.metadata;
      if (this.#greeted.has(uid) || (service.status?.readyReplicas ?? 0) === 0) continue;
      this.#greeted.add(uid);
      this.log(curlLine(up.address, servedNames(service.metadata.name, service.spec)[0] ?? ""));
    }
  }
}

/** A request that can be pasted into a shell. */
export function curlLine(address: string, model: string): string {
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hello" }] });
  return `curl ${address}/v1/chat/completions -H 'content-type: application/json' -d '${body}'`;
}

function loading(up: Up): Map<string, Amount> {
  const amounts = new Map<string, Amount>();
  for (const { spec, replica } of up.cluster.pods()) {
    const startup = replica?.startup;
    if (startup !== undefined && startup.phase !== "Serving")
      amounts.set(spec.name, startupAmount(startup));
  }
  return amounts;
}
