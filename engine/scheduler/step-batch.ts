import { chunkSamples, lastSampled, type StepBatch } from "../device.ts";

/** A step's chunks in flat arrays that are allocated once and filled anew for every step. */
export class StepBatchBuffer implements StepBatch {
  chunkCount = 0;
  tokenCount = 0;
  readonly rows: Int32Array;
  readonly starts: Int32Array;
  readonly counts: Int32Array;
  readonly flags: Uint8Array;
  readonly tokenIds: Int32Array;

  constructor(maxChunks: number, maxTokens: number) {
    this.rows = new Int32Array(maxChunks);
    this.starts = new Int32Array(maxChunks);
    this.counts = new Int32Array(maxChunks);
    this.flags = new Uint8Array(maxChunks);
    this.tokenIds = new Int32Array(maxTokens);
  }

  clear(): void {
    this.chunkCount = 0;
    this.tokenCount = 0;
  }

  /**
   * Adds tokens `[start, start + count)` of a request.
   *
   * @param knownCount tokens whose ids are known; the one after them is what its row sampled last
   */
  add(
    row: number,
    start: number,
    count: number,
    tokens: Int32Array,
    knownCount: number,
    samples: boolean,
  ): void {
    const chunk = this.chunkCount++;
    this.rows[chunk] = row;
    this.starts[chunk] = start;
    this.counts[chunk] = count;
    this.flags[chunk] = samples ? chunkSamples : 0;
    for (let i = 0; i < count; i++) {
      const position = start + i;
      this.tokenIds[this.tokenCount + i] =
        position < knownCount ? (tokens[position] as number) : lastSampled;
    }
    this.tokenCount += count;
  }
}
