import type { InferenceService } from "../api/inference-service.ts";
import type { Autoscaler, ServiceView } from "../autoscaler/autoscaler.ts";
import { loadOf } from "../autoscaler/service-load.ts";
import type { ScalingDecision, ServiceLoad } from "../reconcile/scaling.ts";
import { keyOf } from "../runtime/kubernetes-object.ts";
import type { Priority } from "../runtime/work-queue.ts";
import type { EngineReader } from "./engine-reader.ts";
import { type EngineSignals, isServing, observedPod } from "./observe-pod.ts";
import type { Pod } from "./pod-manifest.ts";
import type { World } from "./world.ts";

export interface ScalingLoopOptions {
  readonly world: World;
  readonly reader: EngineReader;
  readonly autoscaler: Pick<Autoscaler, "tick">;
  /** Told of each service whose decision or load has changed. */
  readonly onChange: (key: string, priority: Priority) => void;
}

/** Reads every engine once a tick, and lets the autoscaler decide on what it reads. */
export class ScalingLoop {
  readonly #options: ScalingLoopOptions;
  #decisions: ReadonlyMap<string, ScalingDecision> = new Map();
  #loads: ReadonlyMap<string, ServiceLoad> = new Map();

  constructor(options: ScalingLoopOptions) {
    this.#options = options;
  }

  decisionOf(key: string): ScalingDecision | undefined {
    return this.#decisions.get(key);
  }

  loadOf(key: string): ServiceLoad | undefined {
    return this.#loads.get(key);
  }

  signalsOf(pod: Pod): EngineSignals {
    return this.#options.reader.signalsOf(pod.metadata.uid, Date.now());
  }

  async tick(): Promise<void> {
    const { world, reader, autoscaler, onChange } = this.#options;
    await reader.read(world.pods.values(), Date.now);
    const nowMs = Date.now();
    const services = world.services.values();
    const views = services.map((service) => this.#viewOf(service, nowMs));
    const byUid = autoscaler.tick(views, world.policies.values(), nowMs);
    const decisions = new Map<string, ScalingDecision>();
    const loads = new Map<string, ServiceLoad>();
    for (const { key: uid, service, observation } of views) {
      const key = keyOf(service);
      const decision = byUid.get(uid);
      const load = loadOf(observation.samples);
      if (decision !== undefined) decisions.set(key, decision);
      if (load !== undefined) loads.set(key, load);
    }
    const [formerDecisions, formerLoads] = [this.#decisions, this.#loads];
    this.#decisions = decisions;
    this.#loads = loads;
    for (const key of services.map(keyOf)) {
      if (isNews(formerDecisions.get(key), decisions.get(key))) onChange(key, "normal");
      else if (textOf(formerLoads.get(key)) !== textOf(loads.get(key))) onChange(key, "low");
    }
  }

  #viewOf(service: InferenceService, nowMs: number): ServiceView {
    const { world, reader } = this.#options;
    const key = keyOf(service);
    const pods = world.pods
      .by("service", key)
      .map((pod) => ({ pod, seen: observedPod(pod, {}) }))
      .filter(({ seen }) => seen.drainingSince === undefined && seen.phase !== "Terminating");
    const ready = pods.filter(({ pod }) => isServing(pod));
    const unplaced = pods.filter(({ seen }) => seen.unschedulable !== undefined);
    const waitingSince = unplaced.map(({ seen }) => seen.createdAt.getTime());
    return {
      key: service.metadata.uid ?? key,
      service,
      namespaceLabels: world.namespaceLabels(service.metadata.namespace),
      observation: {
        atMs: nowMs,
        samples: ready.flatMap(({ pod }) => reader.sampleOf(pod.metadata.uid) ?? []),
        readyCount: ready.length,
        pendingCount: pods.length - ready.length,
      },
      placedCount: pods.length - unplaced.length,
      unplacedSinceMs: waitingSince.length === 0 ? undefined : Math.min(...waitingSince),
      loadMs: loadMsOf(ready.map(({ pod }) => pod)),
    };
  }
}

/** From making the youngest pod that never ended to its first answer. */
function loadMsOf(pods: readonly Pod[]): number | undefined {
  const times = pods.flatMap(({ metadata, status }) => {
    const ready = status?.conditions?.find(({ type }) => type === "Ready")?.lastTransitionTime;
    const restarted = status?.containerStatuses?.some(({ restartCount }) => restartCount > 0);
    if (ready === undefined || restarted || metadata.creationTimestamp === undefined) return [];
    const createdMs = Date.parse(metadata.creationTimestamp);
    return [{ createdMs, loadMs: Date.parse(ready) - createdMs }];
  });
  return times.sort((a, b) => b.createdMs - a.createdMs)[0]?.loadMs;
}

function isNews(before: ScalingDecision | undefined, after: ScalingDecision | undefined): boolean {
  return (
    before?.desiredReplicas !== after?.desiredReplicas ||
    before?.boundBy !== after?.boundBy ||
    before?.fresh !== after?.fresh
  );
}

function textOf(load: ServiceLoad | undefined): string {
  if (load === undefined) return "";
  const { kvCacheUtilization, runningRequests, waitingRequests } = load;
  return [kvCacheUtilization.toFixed(2), runningRequests, waitingRequests].join();
}
