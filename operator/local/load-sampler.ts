import type { InferenceService } from "../api/inference-service.ts";
import type { Autoscaler, ServiceView } from "../autoscaler/autoscaler.ts";
import { readSample } from "../autoscaler/scrape.ts";
import { loadOf } from "../autoscaler/service-load.ts";
import type { ReplicaSample } from "../autoscaler/window.ts";
import type { ScalingDecision, ServiceLoad } from "../reconcile/scaling.ts";
import { Probe } from "./probe.ts";
import type { LocalPod, ProcessCluster } from "./process-cluster.ts";
import { type ServiceStore, serviceKey } from "./service-store.ts";

/** Longest wait for one engine: less than a tick, so that a slow one delays nobody. */
const scrapeTimeoutMs = 800;

/** Reads every engine once a tick, and lets the autoscaler decide on what it reads. */
export class LoadSampler {
  readonly #store: ServiceStore;
  readonly #cluster: ProcessCluster;
  readonly #autoscaler: Pick<Autoscaler, "tick">;
  readonly #samples = new Map<string, ReplicaSample>();
  readonly #loadMs = new Map<string, number>();

  constructor(store: ServiceStore, cluster: ProcessCluster, autoscaler: Pick<Autoscaler, "tick">) {
    this.#store = store;
    this.#cluster = cluster;
    this.#autoscaler = autoscaler;
  }

  async tick(): Promise<void> {
    const pods = this.#cluster.pods();
    await Promise.all(pods.map((pod) => this.#scrape(pod)));
    this.#forget(new Set(pods.map(({ spec }) => spec.name)));
    const nowMs = Date.now();
    const views = this.#store.services().map((service) => this.#viewOf(service, pods, nowMs));
    const byUid = this.#autoscaler.tick(views, this.#store.policies(), nowMs);
    const decisions = new Map<string, ScalingDecision>();
    const loads = new Map<string, ServiceLoad>();
    for (const { key: uid, service, observation } of views) {
      const decision = byUid.get(uid);
      const load = loadOf(observation.samples);
      if (decision !== undefined) decisions.set(serviceKey(service), decision);
      if (load !== undefined) loads.set(serviceKey(service), load);
    }
    this.#cluster.setScaling(decisions, loads);
  }

  async #scrape({ key, spec, replica, createdAt }: LocalPod): Promise<void> {
    if (replica?.ready !== true || replica.port === undefined) return;
    if (!this.#samples.has(spec.name)) this.#loadMs.set(key, Date.now() - createdAt.getTime());
    const text = await new Probe(replica.port, scrapeTimeoutMs).metrics();
    const sample = text === undefined ? undefined : readSample(spec.name, text, Date.now());
    if (sample !== undefined) this.#samples.set(spec.name, sample);
  }

  #viewOf(service: InferenceService, all: readonly LocalPod[], nowMs: number): ServiceView {
    const key = serviceKey(service);
    const pods = all.filter((pod) => pod.key === key && pod.replica?.drainingSince === undefined);
    const ready = pods.filter(({ replica }) => replica?.ready === true);
    const unplaced = pods.filter(({ unschedulable }) => unschedulable !== undefined);
    const samples = ready.map(({ spec }) => this.#samples.get(spec.name));
    return {
      key: service.metadata.uid ?? key,
      service,
      namespaceLabels: {},
      observation: {
        atMs: nowMs,
        samples: samples.filter((sample) => sample !== undefined),
        readyCount: ready.length,
        pendingCount: pods.length - ready.length,
      },
      placedCount: pods.length - unplaced.length,
      unplacedSinceMs: unplaced[0]?.createdAt.getTime(),
      loadMs: this.#loadMs.get(key),
    };
  }

  #forget(alive: ReadonlySet<string>): void {
    for (const name of this.#samples.keys()) if (!alive.has(name)) this.#samples.delete(name);
  }
}
