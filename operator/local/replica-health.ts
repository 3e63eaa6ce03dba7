import type { StartupReport } from "../../engine/contract.ts";
import type { Probe, ProbeResult } from "./probe.ts";

export interface HealthDeadlines {
  readonly livenessDeadlineMs: number;
  readonly stallDeadlineMs: number;
}

/** Consecutive unanswered probes after which a replica is no longer sent requests. */
const maxSilentLooks = 3;

/**
 * What one engine process has shown of itself, look by look.
 *
 * Loading has no deadline, standing still has: as long as phase, bytes or message change, an engine
 * may take all day.
 */
export class ReplicaHealth {
  readonly #probe: Pick<Probe, "live" | "ready" | "startup">;
  readonly #deadlines: HealthDeadlines;
  #serving = false;
  #ready = false;
  #silentLooks = 0;
  #startup: StartupReport | undefined;
  /** When the load last progressed, or the engine was last live. */
  #aliveAtMs: number | undefined;
  #failure: string | undefined;

  constructor(probe: Pick<Probe, "live" | "ready" | "startup">, deadlines: HealthDeadlines) {
    this.#probe = probe;
    this.#deadlines = deadlines;
  }

  get ready(): boolean {
    return this.#ready;
  }

  get startup(): StartupReport | undefined {
    return this.#startup;
  }

  /** What the engine did that it should be ended for; `undefined` while it should not. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Probes once. @returns whether anything changed that others should know of. */
  async look(nowMs: number): Promise<boolean> {
    this.#aliveAtMs ??= nowMs;
    const before = [this.#ready, JSON.stringify(this.#startup)].join();
    await (this.#serving ? this.#lookServing(nowMs) : this.#lookStarting(nowMs));
    return before !== [this.#ready, JSON.stringify(this.#startup)].join();
  }

  async #lookStarting(nowMs: number): Promise<void> {
    const report = await this.#probe.startup();
    if (report !== undefined && JSON.stringify(report) !== JSON.stringify(this.#startup)) {
      this.#startup = report;
      this.#aliveAtMs = nowMs;
    }
    this.#serving = report?.phase === "Serving";
    if (this.#serving) {
      this.#ready = (await this.#probe.ready()) === "yes";
    } else if (this.#quietMs(nowMs) >= this.#deadlines.stallDeadlineMs) {
      const phase = this.#startup?.phase ?? "before its first report";
      this.#failure = `made no progress for ${seconds(this.#deadlines.stallDeadlineMs)} (${phase})`;
    }
  }

  async #lookServing(nowMs: number): Promise<void> {
    const [live, ready] = await Promise.all([this.#probe.live(), this.#probe.ready()]);
    this.#ready = this.#readyAfter(ready);
    if (live === "yes") {
      this.#aliveAtMs = nowMs;
    } else if (this.#quietMs(nowMs) >= this.#deadlines.livenessDeadlineMs) {
      this.#failure = `was not live for ${seconds(this.#deadlines.livenessDeadlineMs)}`;
    }
  }

  /** A "no" counts at once; silence may be a machine that is short of time. */
  #readyAfter(result: ProbeResult): boolean {
    this.#silentLooks = result === "silent" ? this.#silentLooks + 1 : 0;
    if (result === "silent" && this.#silentLooks < maxSilentLooks) return this.#ready;
    return result === "yes";
  }

  #quietMs(nowMs: number): number {
    return nowMs - (this.#aliveAtMs ?? nowMs);
  }
}

function seconds(ms: number): string {
  return `${ms / 1_000} s`;
}
