import { MultiBar, type SingleBar } from "cli-progress";
import type { StartupReport } from "../../engine/contract.ts";

/** How far the replicas have come, for a person at a shell. */
export interface Progress {
  /** @param reports the latest of every replica that is not serving yet, by name */
  show(reports: ReadonlyMap<string, StartupReport>): void;
  /** A line of text, above the bars. */
  log(line: string): void;
  stop(): void;
}

interface Output {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** Bars on a terminal; elsewhere a line for each phase and each tenth of its bytes. */
export function createProgress(output: Output & NodeJS.WritableStream): Progress {
  return output.isTTY === true ? new Bars(output) : new Lines(output);
}

class Bars implements Progress {
  readonly #bars = new Map<string, SingleBar>();
  readonly #multibar: MultiBar;

  constructor(stream: NodeJS.WritableStream) {
    this.#multibar = new MultiBar({
      stream,
      format: "{name} [{bar}] {amount}",
      hideCursor: true,
      clearOnComplete: true,
      gracefulExit: false,
    });
  }

  show(reports: ReadonlyMap<string, StartupReport>): void {
    for (const [name, bar] of this.#bars) {
      if (reports.has(name)) continue;
      this.#multibar.remove(bar);
      this.#bars.delete(name);
    }
    for (const [name, report] of reports) {
      const total = Math.max(1, report.totalBytes);
      const payload = { name, amount: amountOf(report) };
      const bar = this.#bars.get(name) ?? this.#multibar.create(total, 0, payload);
      this.#bars.set(name, bar);
      bar.setTotal(total);
      bar.update(report.doneBytes, payload);
    }
  }

  log(line: string): void {
    this.#multibar.log(`${line}\n`);
    this.#multibar.update();
  }

  stop(): void {
    this.#multibar.stop();
  }
}

class Lines implements Progress {
  readonly #output: Output;
  readonly #told = new Map<string, string>();

  constructor(output: Output) {
    this.#output = output;
  }

  show(reports: ReadonlyMap<string, StartupReport>): void {
    for (const name of this.#told.keys()) if (!reports.has(name)) this.#told.delete(name);
    for (const [name, report] of reports) {
      const tenth = Math.floor((10 * report.doneBytes) / Math.max(1, report.totalBytes));
      const step = `${report.phase} ${tenth}`;
      if (this.#told.get(name) === step) continue;
      this.#told.set(name, step);
      this.log(`${name}: ${amountOf(report)}`);
    }
  }

  log(line: string): void {
    this.#output.write(`${line}\n`);
  }

  stop(): void {
    this.#told.clear();
  }
}

function amountOf({ phase, doneBytes, totalBytes, message }: StartupReport): string {
  if (totalBytes === 0) return message === "" ? phase : message;
  const share = Math.floor((100 * doneBytes) / totalBytes);
  return `${phase} ${share} % of ${(totalBytes / 1e6).toFixed(1)} MB`;
}
