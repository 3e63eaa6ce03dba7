/** One pod of a fake node, from its binding to its end, and what is reported of it. */
import { behaviourAnnotation, parseBehaviour, wordsOfModel } from "./behaviour.ts";
import type { Container } from "./container.ts";
import type { Instruction } from "./fake-container.ts";
import type { KubeApi } from "./kube-api.ts";
import {
  type ContainerState,
  type Ending,
  type Pod,
  type PodPlace,
  statusPatch,
} from "./pod-status.ts";

export interface ContainerStart {
  readonly pod: Pod;
  readonly place: PodPlace;
  readonly restarted: boolean;
  readonly instruction: () => Instruction;
  /** To be called when the container has changed by itself. */
  readonly onChange: () => void;
}

export interface KubeletPodOptions {
  readonly api: KubeApi;
  /** @throws Error for what only a change of other objects can mend, such as a missing Secret */
  readonly startContainer: (start: ContainerStart) => Promise<Container>;
  readonly onError: (error: unknown) => void;
}

const firstBackoffMs = 500;
const maxBackoffMs = 30_000;
const defaultGraceSeconds = 30;
/** After a failure of the API server, or of what a container needs to start. */
const retryMs = 1_000;
const forever = Number.POSITIVE_INFINITY;
const creating: ContainerState = { kind: "waiting", reason: "ContainerCreating" };

export class KubeletPod {
  #pod: Pod;
  #instruction: Instruction;
  #state: ContainerState = creating;
  /** When the present state began. */
  #sinceMs: number;
  #container: Container | undefined;
  #terminatingSinceMs: number | undefined;
  #restartCount = 0;
  #published = "";
  #timer: NodeJS.Timeout | undefined;
  #gone = false;
  /** Steps never overlap: a change during one makes one more. */
  #stepping: Promise<void> = Promise.resolve();
  readonly #place: PodPlace;
  readonly #options: KubeletPodOptions;

  constructor(pod: Pod, place: PodPlace, options: KubeletPodOptions) {
    this.#pod = pod;
    this.#place = place;
    this.#options = options;
    this.#instruction = { behaviour: parseBehaviour(wordsOf(pod)), sinceMs: place.startedAtMs };
    this.#sinceMs = place.startedAtMs;
    this.#stepSoon();
  }

  /** Takes note of a change of the object. */
  observe(pod: Pod): void {
    if (wordsOf(pod) !== wordsOf(this.#pod)) {
      this.#instruction = { behaviour: parseBehaviour(wordsOf(pod)), sinceMs: Date.now() };
    }
    this.#pod = pod;
    this.#stepSoon();
  }

  /** The object is gone: so is whatever ran. */
  async end(): Promise<void> {
    this.#gone = true;
    clearTimeout(this.#timer);
    await this.#stepping;
    await this.#container?.kill();
  }

  #stepSoon(): void {
    this.#stepping = this.#stepping
      .then(() => this.#step())
      .catch((error: unknown) => {
        this.#options.onError(error);
        if (!this.#gone) this.#timer = setTimeout(() => this.#stepSoon(), retryMs);
      });
  }

  async #step(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#gone) return;
    const now = Date.now();
    const terminating = this.#pod.metadata.deletionTimestamp !== undefined;
    const waitMs = await (terminating ? this.#terminate(now) : this.#advance(now));
    if (this.#gone) return;
    await this.#publish();
    if (waitMs !== forever) this.#timer = setTimeout(() => this.#stepSoon(), Math.max(0, waitMs));
  }

  /** Moves to the state that the time is right for, and says how long that one lasts. */
  async #advance(now: number): Promise<number> {
    const elapsedMs = now - this.#sinceMs;
    switch (this.#state.kind) {
      case "waiting":
        return await this.#create(elapsedMs);
      case "running":
        return await this.#watch(now);
      case "backoff": {
        const backoffMs = Math.min(maxBackoffMs, firstBackoffMs * 2 ** this.#restartCount);
        if (elapsedMs < backoffMs) return backoffMs - elapsedMs;
        this.#restartCount++;
        return await this.#start();
      }
      case "ended":
        return forever;
    }
  }

  async #create(elapsedMs: number): Promise<number> {
    const { imageMissing, startMs } = this.#instruction.behaviour;
    if (imageMissing) {
      const message = `Back-off pulling image "${this.#pod.spec.containers[0]?.image}": not found`;
      this.#state = { kind: "waiting", reason: "ImagePullBackOff", message };
      return forever;
    }
    return elapsedMs < startMs ? startMs - elapsedMs : await this.#start();
  }

  async #start(): Promise<number> {
    try {
      this.#container = await this.#options.startContainer({
        pod: this.#pod,
        place: this.#place,
        restarted: this.#restartCount > 0,
        instruction: () => this.#instruction,
        onChange: () => this.#stepSoon(),
      });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#enter({ kind: "waiting", reason: "CreateContainerConfigError", message }, Date.now());
      return retryMs;
    }
    const sinceMs = this.#container.startedAtMs;
    const last = this.#state.kind === "backoff" ? this.#state.last : undefined;
    return this.#enter({ kind: "running", sinceMs, ready: false, last }, sinceMs);
  }

  /** A running container becomes ready, or ends by itself. */
  async #watch(now: number): Promise<number> {
    const ending = this.#container?.ending(now);
    if (ending !== undefined) return await this.#fall(ending, now);
    const ready = this.#container?.ready(now) ?? false;
    if (this.#state.kind === "running") this.#state = { ...this.#state, ready };
    return this.#container?.nextChangeMs(now) ?? forever;
  }

  async #fall(last: Ending, now: number): Promise<number> {
    await this.#container?.kill();
    this.#container = undefined;
    const stays = this.#pod.spec.restartPolicy === "Never";
    return this.#enter({ kind: stays ? "ended" : "backoff", last }, now);
  }

  #enter(state: ContainerState, now: number): number {
    this.#state = state;
    this.#sinceMs = now;
    return 0;
  }

  /** SIGTERM, the container's own end or that of the grace period, and the object's removal. */
  async #terminate(now: number): Promise<number> {
    this.#terminatingSinceMs ??= now;
    const { metadata } = this.#pod;
    const graceMs = 1_000 * (metadata.deletionGracePeriodSeconds ?? defaultGraceSeconds);
    const graceLeftMs = this.#terminatingSinceMs + graceMs - now;
    this.#container?.terminate(now);
    const running = this.#container !== undefined && this.#container.ending(now) === undefined;
    if (running && graceLeftMs > 0) {
      if (this.#state.kind === "running") this.#state = { ...this.#state, ready: false };
      return Math.min(graceLeftMs, this.#container?.nextChangeMs(now) ?? forever);
    }
    await this.#container?.kill();
    await this.#options.api.send("DELETE", this.#path(), {
      kind: "DeleteOptions",
      apiVersion: "v1",
      gracePeriodSeconds: 0,
      preconditions: { uid: metadata.uid },
    });
    this.#gone = true;
    return forever;
  }

  async #publish(): Promise<void> {
    const patch = statusPatch(this.#pod, this.#place, this.#state, this.#restartCount);
    const text = JSON.stringify(patch);
    if (text === this.#published) return;
    await this.#options.api.send("PATCH", `${this.#path()}/status`, patch, strategicMerge);
    this.#published = text;
  }

  #path(): string {
    const { namespace = "default", name } = this.#pod.metadata;
    return `/api/v1/namespaces/${namespace}/pods/${name}`;
  }
}

const strategicMerge = "application/strategic-merge-patch+json";

function wordsOf({ metadata, spec }: Pod): string {
  const location = spec.containers
    .flatMap(({ env = [] }) => env)
    .find(({ name }) => name === "QUIRE_MODEL")?.value;
  return metadata.annotations?.[behaviourAnnotation] ?? wordsOfModel(location ?? "");
}
