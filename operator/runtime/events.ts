import {
  apiVersionOf,
  collectionPath,
  type KubernetesObject,
  objectPath,
  type Resource,
} from "./kubernetes-object.ts";
import type { Call, Transport } from "./transport.ts";

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
  /** Told of each event that was not accepted; it is not sent again. */
  readonly onError: (error: unknown) => void;
}

// As in client-go: what repeats within it is counted in one event.
const seriesMs = 600_000;
// One object's first events in a series' time; then repeated ones only count.
const maxNewPerObject = 25;
// The API server's limit.
const maxMessageLength = 1_024;
const maxTracked = 10_000;
// Beyond it the oldest are dropped: what is newer tells more.
const maxUnsent = 5_000;

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
  readonly #unsent: Call[] = [];
  #sending: Promise<void> | undefined;
  #sequence = 0;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  /** Returns at once: nobody waits for an event, least of all what it tells of. */
  record(resource: Resource, { metadata }: KubernetesObject, happening: Happening): void {
    const { uid = "", namespace = "default" } = metadata;
    const now = this.#options.now();
    this.#forget(now.getTime());
    const key = `${uid} ${happening.reason} ${happening.message.replace(/\d+/g, "#")}`;
    const known = this.#series.get(key);
    if (known !== undefined) {
      known.count++;
      known.lastMs = now.getTime();
      this.#send(this.#repetition(known, now));
      return;
    }
    if (!this.#mayAdd(uid, now.getTime())) return;
    this.#sequence++;
    const name = `${metadata.name}.${now.getTime().toString(36)}${this.#sequence.toString(36)}`;
    this.#series.set(key, { name, namespace, count: 1, lastMs: now.getTime() });
    const { name: objectName } = metadata;
    const { kind } = resource;
    const apiVersion = apiVersionOf(resource);
    const regarding = { apiVersion, kind, name: objectName, namespace, uid };
    this.#send({
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
        regarding,
      },
    });
  }

  /** Resolves once everything that was recorded is sent, or was refused. */
  async flush(): Promise<void> {
    await this.#sending;
  }

  #repetition({ name, namespace, count }: Series, now: Date): Call {
    return {
      method: "PATCH",
      path: objectPath(eventResource, { name, namespace }),
      contentType: "application/merge-patch+json",
      body: { series: { count, lastObservedTime: microTime(now) } },
    };
  }

  #send(call: Call): void {
    if (this.#unsent.length >= maxUnsent) this.#unsent.shift();
    this.#unsent.push(call);
    this.#sending ??= this.#sendAll();
  }

  /** One after the other: events give way to everything else. */
  async #sendAll(): Promise<void> {
    for (let call = this.#unsent.shift(); call !== undefined; call = this.#unsent.shift()) {
      await this.#options.transport.call(call).catch(this.#options.onError);
    }
    this.#sending = undefined;
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
