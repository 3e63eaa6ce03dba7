import { EngineError } from "../errors.ts";

export interface QueueLimits {
  /** Requests that may be running at once. */
  readonly maxRows: number;
  /** Requests that may wait beyond those that can run. */
  readonly maxWaitingRequests: number;
  /** Prompt tokens of all requests that have not started; one request alone may exceed it. */
  readonly maxWaitingTokens: number;
}

/**
 * Bounds what waits to run, on the side of those who ask: a request that would wait too long is
 * refused before anything is spent on it.
 */
export class QueueLimit {
  readonly #limits: QueueLimits;
  /** Prompt tokens of requests that have not started, by request. */
  readonly #waiting = new Map<number, number>();
  #waitingTokens = 0;
  #liveCount = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  /**
   * @param queuedCount requests that the engine last said could not start
   * @throws EngineError QUEUE_FULL
   */
  assertRoom(promptLength: number, queuedCount: number): void {
    const { maxRows, maxWaitingRequests, maxWaitingTokens } = this.#limits;
    // Requests on their way to a free row are no queue, so all that live may fill the rows first.
    const rowsAndQueue = this.#liveCount >= maxRows + maxWaitingRequests;
    if (rowsAndQueue || queuedCount >= Math.max(1, maxWaitingRequests)) {
      throw full(`${this.#waiting.size} requests wait to run, of ${maxWaitingRequests}`);
    }
    const tokens = this.#waitingTokens + promptLength;
    if (this.#waiting.size > 0 && tokens > maxWaitingTokens) {
      throw full(`${tokens} prompt tokens would wait to run, of ${maxWaitingTokens}`);
    }
  }

  add(index: number, promptLength: number): void {
    this.#liveCount += 1;
    this.#waiting.set(index, promptLength);
    this.#waitingTokens += promptLength;
  }

  /** The request runs. */
  start(index: number): void {
    this.#waitingTokens -= this.#waiting.get(index) ?? 0;
    this.#waiting.delete(index);
  }

  /** The request has ended, whether it had started or not. */
  end(index: number): void {
    this.start(index);
    this.#liveCount -= 1;
  }
}

function full(message: string): EngineError {
  return new EngineError("QUEUE_FULL", message, {
    remedy: "Retry after a pause, or add replicas.",
  });
}
