/** Milliseconds of a clock that never jumps and is the same in every thread of the process. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

/**
 * Until when this process may write as the leader, shared between threads.
 *
 * A moment and not a flag: a process that was stopped for a while finds that its time has passed,
 * before any of its threads could take a flag down.
 */
export class Fence {
  readonly buffer: SharedArrayBuffer;
  readonly #until: BigInt64Array;
  readonly #nowMs: () => number;

  constructor(
    buffer: SharedArrayBuffer = new SharedArrayBuffer(8),
    nowMs: () => number = monotonicMs,
  ) {
    this.buffer = buffer;
    this.#until = new BigInt64Array(buffer);
    this.#nowMs = nowMs;
  }

  get isOpen(): boolean {
    return this.#nowMs() < Number(Atomics.load(this.#until, 0));
  }

  openUntil(untilMs: number): void {
    Atomics.store(this.#until, 0, BigInt(Math.floor(untilMs)));
  }

  close(): void {
    this.openUntil(0);
  }
}
