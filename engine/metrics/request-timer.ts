export type FinishedReason = "stop" | "length" | "abort" | "error";

interface TimerSink {
  firstToken(seconds: number): void;
  nextTokens(seconds: number, count: number): void;
  finish(reason: FinishedReason, seconds: number, decodeSeconds: number, tokenCount: number): void;
}

/** The clock of one generation. */
export class RequestTimer {
  readonly #sink: TimerSink;
  readonly #startedMs = performance.now();
  #firstMs = 0;
  #lastMs = 0;
  #tokenCount = 0;

  constructor(sink: TimerSink) {
    this.#sink = sink;
  }

  /** Tokens became known together. */
  tokens(count: number): void {
    if (count === 0) return;
    const nowMs = performance.now();
    if (this.#tokenCount === 0) {
      this.#firstMs = nowMs;
      this.#sink.firstToken((nowMs - this.#startedMs) / 1000);
      if (count > 1) this.#sink.nextTokens(0, count - 1);
    } else {
      this.#sink.nextTokens((nowMs - this.#lastMs) / 1000 / count, count);
    }
    this.#lastMs = nowMs;
    this.#tokenCount += count;
  }

  /** Called once, at the end. */
  finish(reason: FinishedReason): void {
    const seconds = (performance.now() - this.#startedMs) / 1000;
    const decodeSeconds = (this.#lastMs - this.#firstMs) / 1000;
    this.#sink.finish(reason, seconds, decodeSeconds, this.#tokenCount);
  }
}
