/**
 * Keeps what must be remembered between two ticks for each service, and shares a policy's GPU budget
 * among its services. Reads no clock and does no I/O: the loop that calls it does.
 */
import type { AutoscalingPolicy } from "../api/autoscaling-policy.ts";
import type { InferenceService } from "../api/inference-service.ts";
import type { ScalingDecision } from "../reconcile/scaling.ts";
import { decide, type ScalingState } from "./policy.ts";
import { policyFor, scalingSettings } from "./scaling-settings.ts";
import { type Observation, Window } from "./window.ts";

/** One service as seen at a tick. */
export interface ServiceView {
  /** The same from tick to tick, another for a service that was deleted and made again: its uid. */
  readonly key: string;
  readonly service: InferenceService;
  readonly namespaceLabels: Readonly<Record<string, string>>;
  readonly observation: Observation;
  /** Pods that have a place, and since when another has waited for one; for the cluster's limit. */
  readonly placedCount: number;
  readonly unplacedSinceMs: number | undefined;
  /** Time from creating a replica to its first answer, as last measured. */
  readonly loadMs: number | undefined;
}

interface Memory {
  readonly window: Window;
  desiredReplicas: number;
  lastScaleDownMs: number | undefined;
  capacity:
    | { readonly limit: number; readonly untilMs: number; readonly retryMs: number }
    | undefined;
}

// A pod that waits this long for a place will not get one by waiting: the cluster is full.
const unplacedMs = 60_000;
// A full cluster is asked again after a minute, then ever more rarely.
const firstRetryMs = 60_000;
const lastRetryMs = 600_000;

export class Autoscaler {
  readonly #memories = new Map<string, Memory>();

  /**
   * Decides for every service in mode Auto. Services that are not in `views` are forgotten.
   *
   * @returns decisions by the service's key
   */
  tick(
    views: readonly ServiceView[],
    policies: readonly AutoscalingPolicy[],
    nowMs: number,
  ): Map<string, ScalingDecision> {
    const scaled = views.filter((view) => view.service.spec.scaling.mode === "Auto");
    const decisions = new Map<string, ScalingDecision>();
    const budgets = new Map<string, number>();
    for (const view of scaled.sort(byAge)) {
      const { service } = view;
      const policy = policyFor(service, policies, view.namespaceLabels);
      const memory = this.#memoryOf(view);
      const decision = withinBudget(
        this.#decide(view, policy, memory, nowMs),
        service,
        policy,
        budgets,
      );
      if (decision.desiredReplicas < memory.desiredReplicas) memory.lastScaleDownMs = nowMs;
      memory.desiredReplicas = decision.desiredReplicas;
      decisions.set(view.key, decision);
    }
    for (const key of this.#memories.keys()) if (!decisions.has(key)) this.#memories.delete(key);
    return decisions;
  }

  #decide(
    view: ServiceView,
    policy: AutoscalingPolicy | undefined,
    memory: Memory,
    nowMs: number,
  ): ScalingDecision {
    const settings = scalingSettings(view.service, policy);
    memory.window.add(view.observation, settings.queueDepthPerReplica);
    memory.capacity = capacityOf(view, memory.capacity, nowMs);
    const limited = memory.capacity !== undefined && nowMs < memory.capacity.untilMs;
    const state: ScalingState = {
      desiredReplicas: memory.desiredReplicas,
      lastScaleDownMs: memory.lastScaleDownMs,
      capacityLimit: limited ? memory.capacity?.limit : undefined,
      loadMs: view.loadMs,
    };
    return decide(settings, memory.window, state, nowMs);
  }

  #memoryOf({ key, service }: ServiceView): Memory {
    let memory = this.#memories.get(key);
    if (memory === undefined) {
      memory = {
        window: new Window(),
        // After a restart the status says where the last operator stood.
        desiredReplicas: service.status?.scaling?.desiredReplicas ?? 1,
        lastScaleDownMs: undefined,
        capacity: undefined,
      };
      this.#memories.set(key, memory);
    }
    return memory;
  }
}

/** Remembers for how many pods there was room, and when to ask for more again. */
function capacityOf(
  view: ServiceView,
  known: Memory["capacity"],
  nowMs: number,
): Memory["capacity"] {
  if (known !== undefined && nowMs < known.untilMs) return known;
  const since = view.unplacedSinceMs;
  if (since === undefined || nowMs - since < unplacedMs) {
    // Everything found a place on the retry: the shortage is over.
    return since === undefined ? undefined : known;
  }
  const retryMs = known === undefined ? firstRetryMs : Math.min(2 * known.retryMs, lastRetryMs);
  return { limit: Math.max(1, view.placedCount), untilMs: nowMs + retryMs, retryMs };
}

/** Takes a service's GPUs out of its policy's budget; older services were asked before. */
function withinBudget(
  decision: ScalingDecision,
  service: InferenceService,
  policy: AutoscalingPolicy | undefined,
  budgets: Map<string, number>,
): ScalingDecision {
  const maxGpus = policy?.spec.limits?.maxGPUs;
  const gpuCount = service.spec.resources.gpu.count;
  if (policy === undefined || maxGpus === undefined || gpuCount === 0) return decision;
  const { name } = policy.metadata;
  const left = budgets.get(name) ?? maxGpus;
  const affordable = Math.floor(left / gpuCount);
  const desiredReplicas = Math.min(decision.desiredReplicas, affordable);
  budgets.set(name, left - desiredReplicas * gpuCount);
  if (desiredReplicas === decision.desiredReplicas) return decision;
  const reason = `${decision.reason}; policy ${name} has ${left} of ${maxGpus} GPUs left`;
  return { ...decision, desiredReplicas, boundBy: "Policy", reason };
}

/** Older first; names order those of one second. */
function byAge(a: ServiceView, b: ServiceView): number {
  return ageOrder(a.service) < ageOrder(b.service) ? -1 : 1;
}

function ageOrder({ metadata }: InferenceService): string {
  // RFC 3339 times of one zone order as text.
  return `${metadata.creationTimestamp ?? ""} ${metadata.namespace ?? ""}/${metadata.name}`;
}
