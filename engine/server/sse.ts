import type { FastifyReply } from "fastify";

const headers = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache",
  "x-accel-buffering": "no",
};

/**
 * Writes the streams that got something since the last turn of the event loop, each with one write:
 * the engine wakes many streams at once, and a write costs more than everything before it.
 */
export class StreamFlusher {
  #dirty: EventStream[] = [];

  schedule(stream: EventStream): void {
    if (this.#dirty.push(stream) === 1) setImmediate(() => this.#flush());
  }

  #flush(): void {
    const streams = this.#dirty;
    this.#dirty = [];
    for (const stream of streams) stream.flush();
  }
}

interface EventStreamOptions {
  readonly flusher: StreamFlusher;
  /** Bytes that may wait for a slow reader. */
  readonly maxBufferBytes: number;
  /** The reader left more than that unread; its connection is gone. */
  readonly onSlowReader: () => void;
}

/**
 * One answer of server-sent events. The head is written with the first event, so that a failure
 * before it is still an ordinary error response.
 */
export class EventStream {
  readonly #reply: FastifyReply;
  readonly #options: EventStreamOptions;
  #pending = "";
  #opened = false;

  constructor(reply: FastifyReply, options: EventStreamOptions) {
    this.#reply = reply;
    this.#options = options;
  }

  get opened(): boolean {
    return this.#opened;
  }

  /** @param frame whole events, `data: …` and a blank line each */
  send(frame: string): void {
    if (this.#pending === "") this.#options.flusher.schedule(this);
    this.#opened = true;
    this.#pending += frame;
  }

  flush(): void {
    const { raw } = this.#reply;
    const frames = this.#pending;
    if (frames === "" || raw.destroyed) return;
    this.#pending = "";
    // What the turns before left: this turn's own bytes reach the kernel only after it.
    if (raw.writableLength > this.#options.maxBufferBytes) {
      raw.destroy();
      this.#options.onSlowReader();
      return;
    }
    this.#writeHead();
    raw.write(frames);
  }

  end(): void {
    const { raw } = this.#reply;
    this.#reply.hijack();
    if (raw.destroyed) return;
    this.#writeHead();
    raw.end(this.#pending);
    this.#pending = "";
  }

  #writeHead(): void {
    if (this.#reply.raw.headersSent) return;
    this.#opened = true;
    this.#reply.hijack();
    this.#reply.raw.writeHead(200, { ...this.#reply.getHeaders(), ...headers } as Record<
      string,
      string
    >);
  }
}
