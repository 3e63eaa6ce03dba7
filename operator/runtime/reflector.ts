import { setTimeout as delay } from "node:timers/promises";
import { ApiError, isGone } from "./api-error.ts";
import { collectionPath, type KubernetesObject, type Resource } from "./kubernetes-object.ts";
import type { Store } from "./store.ts";
import type { Transport } from "./transport.ts";

export interface ReflectorOptions<T extends KubernetesObject> {
  readonly transport: Pick<Transport, "call" | "lines">;
  readonly resource: Resource;
  readonly store: Pick<Store<T>, "replace" | "apply" | "seen">;
  /** Absent watches every namespace. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string;
  /** Told of each failure; the reflector goes on by itself. */
  readonly onError: (resource: Resource, error: unknown) => void;
  /** Told of each list; the first is the start. */
  readonly onList?: (resource: Resource) => void;
  readonly timing?: Partial<ReflectorTiming>;
}

export interface ReflectorTiming {
  /** After one immediate attempt; doubles with each failure in a row. */
  readonly firstPauseMs: number;
  readonly maxPauseMs: number;
  /** A watch that says nothing for this long is taken for dead. */
  readonly silenceMs: number;
  /** Time after which the server ends a watch, drawn anew for each. */
  readonly minWatchSeconds: number;
  readonly maxWatchSeconds: number;
}

const defaultTiming: ReflectorTiming = {
  firstPauseMs: 800,
  maxPauseMs: 30_000,
  // The server sends a bookmark about every minute.
  silenceMs: 90_000,
  // Spread, so that the watches of all clients do not end together.
  minWatchSeconds: 290,
  maxWatchSeconds: 590,
};
const pageSize = 500;

interface ListPage<T> {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items?: readonly T[];
}

interface WatchEvent<T> {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: T;
}

/** Keeps a store equal to the API server's collection: lists once, then watches, whatever fails. */
export class Reflector<T extends KubernetesObject> {
  readonly #options: ReflectorOptions<T>;
  readonly #timing: ReflectorTiming;
  readonly #path: string;
  /** Where the watch goes on; absent where only a list can tell. */
  #version: string | undefined;
  #failures = 0;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#timing = { ...defaultTiming, ...options.timing };
    this.#path = collectionPath(options.resource, options.namespace);
  }

  /** Goes on until `signal`; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const error = await this.#listAndWatch(signal).then(
        () => undefined,
        (reason: unknown) => reason ?? new Error("the watch failed"),
      );
      if (signal.aborted) return;
      if (error !== undefined) this.#fail(error);
      await delay(this.#pauseMs(), undefined, { signal }).catch(() => undefined);
      this.#failures++;
    }
  }

  async #listAndWatch(signal: AbortSignal): Promise<void> {
    this.#version ??= await this.#list(signal);
    await this.#watch(this.#version, signal);
  }

  #fail(error: unknown): void {
    // What the server calls an error of the stream says nothing about where to go on.
    if (isGone(error) || error instanceof WatchError) this.#version = undefined;
    this.#options.onError(this.#options.resource, error);
  }

  /** No pause after the first failure: most are a connection that had come to its end. */
  #pauseMs(): number {
    if (this.#failures === 0) return 0;
    const { firstPauseMs, maxPauseMs } = this.#timing;
    const pauseMs = Math.min(firstPauseMs * 2 ** (this.#failures - 1), maxPauseMs);
    return pauseMs * (0.5 + Math.random() / 2);
  }

  /** @returns the version that the watch goes on from. */
  async #list(signal: AbortSignal): Promise<string> {
    const objects: T[] = [];
    let next: string | undefined;
    do {
      const query = { ...this.#selection(), limit: pageSize, ...(next ? { continue: next } : {}) };
      const page = await this.#options.transport.call<ListPage<T>>({
        method: "GET",
        path: this.#path,
        query,
        signal,
      });
      for (const item of page.items ?? []) objects.push(item);
      next = page.metadata.continue;
      if (!next) {
        this.#options.store.replace(objects, page.metadata.resourceVersion);
        this.#options.onList?.(this.#options.resource);
        return page.metadata.resourceVersion;
      }
    } while (!signal.aborted);
    throw signal.reason;
  }

  async #watch(from: string, signal: AbortSignal): Promise<void> {
    const { minWatchSeconds, maxWatchSeconds, silenceMs } = this.#timing;
    const spread = Math.floor(Math.random() * (maxWatchSeconds - minWatchSeconds + 1));
    const dead = new AbortController();
    const deadMan = setTimeout(() => dead.abort(), silenceMs);
    try {
      const lines = this.#options.transport.lines({
        method: "GET",
        path: this.#path,
        query: {
          ...this.#selection(),
          watch: true,
          allowWatchBookmarks: true,
          resourceVersion: from,
          timeoutSeconds: minWatchSeconds + spread,
        },
        signal: AbortSignal.any([signal, dead.signal]),
      });
      for await (const line of lines) {
        deadMan.refresh();
        this.#take(JSON.parse(line) as WatchEvent<T>);
        this.#failures = 0;
      }
    } finally {
      clearTimeout(deadMan);
    }
  }

  #take({ type, object }: WatchEvent<T>): void {
    if (type === "ERROR") throw watchErrorOf(this.#path, object);
    const { resourceVersion } = object.metadata;
    if (type === "BOOKMARK") {
      if (resourceVersion !== undefined) this.#options.store.seen(resourceVersion);
    } else {
      this.#options.store.apply(type, object);
    }
    this.#version = resourceVersion ?? this.#version;
  }

  #selection(): Record<string, string> {
    const { labelSelector } = this.#options;
    return labelSelector === undefined ? {} : { labelSelector };
  }
}

/** The server broke off a watch for a reason of its own. */
class WatchError extends Error {
  override readonly name = "WatchError";
}

function watchErrorOf(path: string, status: unknown): Error {
  const { code, message } = status as { readonly code?: number; readonly message?: string };
  if (code === 410) return new ApiError(`watch ${path}`, code, JSON.stringify(status));
  return new WatchError(`watch ${path}: ${message ?? JSON.stringify(status)}`);
}
