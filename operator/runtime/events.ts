import {
  apiVersionOf,
  collectionPath,
  type KubernetesObject,
  objectPath,
  type Resource,
} from "./kubernetes-object.ts";
import type { Transport } from "./transport.ts";

const eventResource: Resource = {
  group: "events.k8s.io",
  version: "v1",
  kind: "Event",
  plural: "events",
};

export interface Happening {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly message: string;
}

export interface EventRecorderOptions {
  readonly transport: Pick<Transport, "call">;
  /** Such as `quire.dev/operator`. */
  readonly controller: string;
  /** This process, such as the pod's name. */
  readonly instance: string;
  readonly now: () => Date;
}

// As in client-go: what repeats within it is counted in one event.
const seriesMs = 600_000;
// One object's first events in a series' time; then repeated ones only count.
const maxNewPerObject = 25;
// The API server's limit.
const maxMessageLength = 1_024;
const maxTracked = 10_000;

interface Series {
  readonly name: string;
  readonly namespace: string;
  count: number;
  lastMs: number;
}

/**
 * Publishes events. One that differs from an earlier one in numbers alone is counted in its series,
 * and an object that never comes to rest cannot fill etcd.
 */
export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #series = new Map<string, Series>();
  readonly #newCounts = new Map<string, { count: number; untilMs: number }>();
  #sequence = 0;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  async record(
    resource: Resource,
    { metadata }: KubernetesObject,
    happening: Happening,
    signal?: AbortSignal,
  ): Promise<void> {
    const { uid = "", namespace = "default" } = metadata;
    const now = this.#options.now();
    this.#forget(now.getTime());
    const key = `${uid} ${happening.reason} ${happening.message.replace(/\d+/g, "#")}`;
    const known = this.#series.get(key);
    if (known !== undefined) {
      known.count++;
      known.lastMs = now.getTime();
      await this.#count(known, now, signal);
      return;
    }
    if (!this.#mayAdd(uid, now.getTime())) return;
    this.#sequence++;
    const name = `${metadata.name}.${now.getTime().toString(36)}${this.#sequence.toString(36)}`;
    this.#series.set(key, { name, namespace, count: 1, lastMs: now.getTime() });
    await this.#options.transport.call({
      method: "POST",
      path: collectionPath(eventResource, namespace),
      body: {
        apiVersion: apiVersionOf(eventResource),
        kind: eventResource.kind,
        metadata: { name, namespace },
        eventTime: microTime(now),
        reportingController: this.#options.controller,
        reportingInstance: this.#options.instance,
        action: happening.reason,
        reason: happening.reason,
        type: happening.type,
        note: shortened(happening.message),
        regarding: {
          apiVersion: apiVersionOf(resource),
          kind: resource.kind,
          name: metadata.name,
          namespace,
          uid,
        },
      },
      signal,
    });
  }

  async #count({ name, namespace, count }: Series, now: Date, signal?: AbortSignal) {
    await this.#options.transport.call({
      method: "PATCH",
      path: objectPath(eventResource, { name, namespace }),
      contentType: "application/merge-patch+json",
      body: { series: { count, lastObservedTime: microTime(now) } },
      signal,
    });
  }

  #mayAdd(uid: string, nowMs: number): boolean {
    const known = this.#newCounts.get(uid);
    if (known === undefined) {
      this.#newCounts.set(uid, { count: 1, untilMs: nowMs + seriesMs });
      return true;
    }
    known.count++;
    return known.count <= maxNewPerObject;
  }

  #forget(nowMs: number): void {
    for (const [key, { lastMs }] of this.#series) {
      if (nowMs - lastMs >= seriesMs || this.#series.size > maxTracked) this.#series.delete(key);
      else break;
    }
    for (const [uid, { untilMs }] of this.#newCounts) {
      if (nowMs >= untilMs || this.#newCounts.size > maxTracked) this.#newCounts.delete(uid);
      else break;
    }
  }
}

function microTime(time: Date): string {
  return time.toISOString().replace("Z", "000Z");
}

function shortened(message: string): string {
  if (message.length <= maxMessageLength) return message;
  return `${message.slice(0, maxMessageLength - 1)}…`;
}
