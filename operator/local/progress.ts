import { MultiBar, type SingleBar } from "cli-progress";
import type { StartupReport } from "../../engine/contract.ts";

/** How far one long thing has come. */
export interface Amount {
  /** What is being done; a new phase gets a line of its own. */
  readonly phase: string;
  readonly done: number;
  /** 0 where nothing is counted. */
  readonly total: number;
  /** Phase and amount in words. */
  readonly text: string;
}

/** How far the long things have come, for a person at a shell. */
export interface Progress {
  /** @param amounts the latest of everything that is not finished, by name */
  show(amounts: ReadonlyMap<string, Amount>): void;
  /** A line of text, above the bars. */
  log(line: string): void;
  stop(): void;
}

interface Output {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** Bars on a terminal; elsewhere a line for each phase and each tenth of its amount. */
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

  show(amounts: ReadonlyMap<string, Amount>): void {
    for (const [name, bar] of this.#bars) {
      if (amounts.has(name)) continue;
      this.#multibar.remove(bar);
      this.#bars.delete(name);
    }
    for (const [name, { done, total: counted, text }] of amounts) {
      const total = Math.max(1, counted);
      const payload = { name, amount: text };
      const bar = this.#bars.get(name) ?? this.#multibar.create(total, 0, payload);
      this.#bars.set(name, bar);
      bar.setTotal(total);
      bar.update(done, payload);
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

  show(amounts: ReadonlyMap<string, Amount>): void {
    for (const name of this.#told.keys()) if (!amounts.has(name)) this.#told.delete(name);
    for (const [name, { phase, done, total, text }] of amounts) {
      const step = `${phase} ${Math.floor((10 * done) / Math.max(1, total))}`;
      if (this.#told.get(name) === step) continue;
      this.#told.set(name, step);
      this.log(`${name}: ${text}`);
    }
  }

  log(line: string): void {
    this.#output.write(`${line}\n`);
  }

  stop(): void {
    this.#told.clear();
  }
}

/** What an engine says of its start. */
export function startupAmount({ phase, doneBytes, totalBytes, message }: StartupReport): Amount {
  const share = Math.floor((100 * doneBytes) / Math.max(1, totalBytes));
  const counted = `${phase} ${share} % of ${(totalBytes / 1e6).toFixed(1)} MB`;
  const text = totalBytes > 0 ? counted : message || phase;
  return { phase, done: doneBytes, total: totalBytes, text };
}
