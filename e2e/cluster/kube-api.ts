/** The requests that the fake kubelet makes, over the platform's own `fetch`. */

import { setTimeout as delay } from "node:timers/promises";

const retryMs = 250;
/** Requests at once: each more would open a TLS connection of its own. */
const maxConcurrent = 32;

/** The fields of any object that are read here; the rest is kept as it is. */
export interface KubeObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly deletionTimestamp?: string;
    readonly deletionGracePeriodSeconds?: number;
    readonly annotations?: Readonly<Record<string, string>>;
  };
}

interface List<T> {
  readonly metadata: { readonly resourceVersion: string };
  readonly items: readonly T[];
}

export interface WatchEvent<T> {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: T;
}

export class KubeApi {
  readonly #server: string;
  readonly #token: string;
  #running = 0;
  readonly #queue: (() => void)[] = [];

  /** The server's authority must be among those of `NODE_EXTRA_CA_CERTS`. */
  constructor(server: string, token: string) {
    this.#server = server;
    this.#token = token;
  }

  /**
   * @returns the answer's object; `undefined` where it is 404 or 409, because somebody was faster
   * @throws Error for every other refusal
   */
  async send(
    method: string,
    path: string,
    body?: object,
    contentType = "application/json",
  ): Promise<unknown> {
    await this.#turn();
    try {
      const response = await fetch(`${this.#server}${path}`, {
        method,
        headers: { authorization: `Bearer ${this.#token}`, "content-type": contentType },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      if (response.status === 404 || response.status === 409) return undefined;
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
      return JSON.parse(text);
    } finally {
      this.#running--;
      this.#queue.shift()?.();
    }
  }

  /**
   * Lists, then follows every change; lists again whenever the connection ends. Each list is told
   * whole, so that what vanished in between is noticed.
   */
  async *follow<T extends KubeObject>(
    path: string,
    query: string,
  ): AsyncGenerator<{ readonly all: readonly T[] } | WatchEvent<T>> {
    for (;;) {
      const list = await this.#list<T>(`${path}?${query}`);
      yield { all: list.items };
      yield* this.#watch<T>(`${path}?${query}`, list.metadata.resourceVersion);
    }
  }

  /** Tries until the server answers: it may be starting anew. */
  async #list<T>(path: string): Promise<List<T>> {
    for (;;) {
      const list = await this.send("GET", path).catch(() => undefined);
      if (list !== undefined) return list as List<T>;
      await delay(retryMs);
    }
  }

  async *#watch<T>(path: string, version: string): AsyncGenerator<WatchEvent<T>> {
    const url = `${this.#server}${path}&watch=1&resourceVersion=${version}`;
    const headers = { authorization: `Bearer ${this.#token}` };
    const response = await fetch(url, { headers }).catch(() => undefined);
    if (response?.ok !== true || response.body === null) return;
    let rest = "";
    try {
      for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
        const lines = `${rest}${chunk}`.split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          const event = JSON.parse(line) as WatchEvent<T>;
          if (event.type === "ERROR") return;
          yield event;
        }
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // fetch's word for a broken connection
    }
  }

  async #turn(): Promise<void> {
    if (this.#running >= maxConcurrent) {
      await new Promise<void>((resolve) => this.#queue.push(resolve));
    }
    this.#running++;
  }
}
