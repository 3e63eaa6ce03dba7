import type { InferenceService, InferenceServiceStatus } from "../api/inference-service.ts";
import { annotations, drainFinalizer, labels } from "../api/names.ts";
import { policyFor } from "../autoscaler/scaling-settings.ts";
import type { DesiredState } from "../reconcile/desired-state.ts";
import type { ServiceEvent } from "../reconcile/events.ts";
import type { NewPod } from "../reconcile/pod-template.ts";
import { ApiError, isAlreadyExists, isCode } from "../runtime/api-error.ts";
import type { AppliedObject, Applier } from "../runtime/apply.ts";
import type { EventRecorder } from "../runtime/events.ts";
import {
  collectionPath,
  type KubernetesObject,
  keyOf,
  objectPath,
  type Resource,
} from "../runtime/kubernetes-object.ts";
import { patchStatus } from "../runtime/status.ts";
import type { Store } from "../runtime/store.ts";
import type { Transport } from "../runtime/transport.ts";
import { TerminalError } from "./errors.ts";
import { observedPod } from "./observe-pod.ts";
import {
  disruptionBudgetManifest,
  networkPolicyManifest,
  serviceManifest,
  serviceUrl,
} from "./owned-objects.ts";
import { type EngineImages, type Pod, podManifest } from "./pod-manifest.ts";
import type { Cluster, Observation } from "./reconcile.ts";
import { resources } from "./resources.ts";
import type { ScalingLoop } from "./scaling-loop.ts";
import { statusWriteDelayMs } from "./status-write.ts";
import type { World } from "./world.ts";

export interface KubernetesClusterOptions {
  readonly transport: Pick<Transport, "call">;
  readonly world: World;
  readonly applier: Applier;
  readonly events: EventRecorder;
  readonly scaling: Pick<ScalingLoop, "decisionOf" | "loadOf" | "signalsOf">;
  readonly images: EngineImages;
  /** Told when to look at a service again whose status waits to be written. */
  readonly lookAgain: (key: string, delayMs: number) => void;
}

/** Time for an engine without requests to end by itself. */
const deleteGraceSeconds = 10;

/** The world of a Kubernetes cluster: reads its cache, writes to its API server. */
export class KubernetesCluster implements Cluster {
  readonly #options: KubernetesClusterOptions;
  /** When each service's status was written last, by uid. */
  readonly #writtenAtMs: Map<string, number>;
  readonly #signal: AbortSignal | undefined;

  constructor(
    options: KubernetesClusterOptions,
    writtenAtMs: Map<string, number> = new Map(),
    signal?: AbortSignal,
  ) {
    this.#options = options;
    this.#writtenAtMs = writtenAtMs;
    this.#signal = signal;
  }

  /** The same world, whose calls end with `signal`. */
  until(signal: AbortSignal): KubernetesCluster {
    return new KubernetesCluster(this.#options, this.#writtenAtMs, signal);
  }

  async getService(key: string): Promise<InferenceService | undefined> {
    return this.#options.world.services.get(key);
  }

  async observe(service: InferenceService): Promise<Observation> {
    const { world, scaling } = this.#options;
    const key = keyOf(service);
    const labelsOfNamespace = world.namespaceLabels(service.metadata.namespace);
    const policy = policyFor(service, world.policies.values(), labelsOfNamespace);
    const decision = scaling.decisionOf(key);
    const load = scaling.loadOf(key);
    return {
      pods: this.#podsOf(service).map((pod) => observedPod(pod, scaling.signalsOf(pod))),
      ...(policy === undefined ? {} : { policy }),
      ...(decision === undefined ? {} : { decision }),
      ...(load === undefined ? {} : { load }),
      url: serviceUrl(service),
    };
  }

  async prepare(service: InferenceService, { replicas }: DesiredState): Promise<void> {
    const { world } = this.#options;
    const key = keyOf(service);
    if (!(service.metadata.finalizers ?? []).includes(drainFinalizer)) {
      await this.#setFinalizers(service, [drainFinalizer]);
    }
    const { fronts, networkPolicies, disruptionBudgets } = world;
    const applied = [
      this.#apply(resources.services, serviceManifest(service), fronts),
      this.#apply(resources.networkPolicies, networkPolicyManifest(service), networkPolicies),
    ];
    // One replica is never protected from a drained node: there is nothing to write for it.
    if (replicas > 1 || disruptionBudgets.get(key) !== undefined) {
      const budget = disruptionBudgetManifest(service, replicas);
      applied.push(this.#apply(resources.disruptionBudgets, budget, disruptionBudgets));
    }
    await Promise.all(applied);
  }

  async createPod(service: InferenceService, pod: NewPod): Promise<void> {
    const path = collectionPath(resources.pods, service.metadata.namespace);
    const body = podManifest(service, pod, this.#options.images);
    try {
      const made = await this.#call<Pod>({ method: "POST", path, body });
      this.#options.world.pods.remember(made);
    } catch (error) {
      if (!isAlreadyExists(error)) throw refusalOf(error);
    }
  }

  async drainPod(service: InferenceService, podName: string): Promise<void> {
    const pod = this.#podOf(service, podName);
    if (pod === undefined || pod.metadata.annotations?.[annotations.drainingSince]) return;
    const metadata = {
      // Refused for another pod of that name.
      uid: pod.metadata.uid,
      labels: { [labels.serving]: null },
      annotations: { [annotations.drainingSince]: new Date().toISOString() },
    };
    const drained = await this.#call<Pod>({
      method: "PATCH",
      path: objectPath(resources.pods, pod.metadata),
      contentType: "application/merge-patch+json",
      body: { metadata },
    }).catch(unlessGone);
    if (drained !== undefined) this.#options.world.pods.remember(drained);
  }

  async deletePod(service: InferenceService, podName: string): Promise<void> {
    const pod = this.#podOf(service, podName);
    if (pod === undefined || pod.metadata.deletionTimestamp !== undefined) return;
    const left = await this.#call<Pod>({
      method: "DELETE",
      path: objectPath(resources.pods, pod.metadata),
      body: {
        apiVersion: "v1",
        kind: "DeleteOptions",
        gracePeriodSeconds: deleteGraceSeconds,
        preconditions: { uid: pod.metadata.uid },
      },
    }).catch(unlessGone);
    // The answer about a pod that is gone already is its last state, and no news.
    if (left?.kind === "Pod" && left.metadata.deletionTimestamp !== undefined) {
      this.#options.world.pods.remember(left);
    }
  }

  async report(
    service: InferenceService,
    status: InferenceServiceStatus,
    happened: readonly ServiceEvent[],
  ): Promise<void> {
    const { transport, world, events, lookAgain } = this.#options;
    const { inferenceServices } = resources;
    const uid = service.metadata.uid ?? "";
    const writtenMs = this.#writtenAtMs.get(uid);
    const sinceMs = writtenMs === undefined ? undefined : performance.now() - writtenMs;
    const delayMs = statusWriteDelayMs(service.status, status, sinceMs);
    if (delayMs === 0) {
      const signal = this.#signal;
      const stored = await patchStatus(transport, inferenceServices, service, status, signal);
      world.services.remember(stored);
      this.#writtenAtMs.set(uid, performance.now());
    } else if (delayMs !== undefined) {
      lookAgain(keyOf(service), delayMs);
    }
    for (const event of happened) events.record(inferenceServices, service, event);
  }

  async release(service: InferenceService): Promise<void> {
    this.#writtenAtMs.delete(service.metadata.uid ?? "");
    if ((service.metadata.finalizers ?? []).includes(drainFinalizer)) {
      await this.#setFinalizers(service, []).catch(unlessGone);
    }
  }

  /** Ours alone: what others put there stays. */
  async #setFinalizers(service: InferenceService, finalizers: readonly string[]): Promise<void> {
    const { name, namespace, uid } = service.metadata;
    const kept = (service.metadata.finalizers ?? []).filter((other) => other !== drainFinalizer);
    const stored = await this.#call<InferenceService>({
      method: "PATCH",
      path: objectPath(resources.inferenceServices, { name, namespace }),
      contentType: "application/merge-patch+json",
      body: {
        metadata: {
          uid,
          // The list is replaced as a whole: refused if it has changed since.
          resourceVersion: service.metadata.resourceVersion,
          finalizers: [...kept, ...finalizers],
        },
      },
    });
    if (stored.metadata.deletionTimestamp === undefined || finalizers.length > 0) {
      this.#options.world.services.remember(stored);
    }
  }

  async #apply<T extends KubernetesObject>(
    resource: Resource,
    desired: AppliedObject,
    store: Store<T>,
  ): Promise<void> {
    const { name, namespace = "" } = desired.metadata;
    const live = store.get(`${namespace}/${name}`);
    const stored = await this.#options.applier
      .apply(resource, desired, live, this.#signal)
      .catch((error: unknown) => {
        throw refusalOf(error);
      });
    if (stored !== undefined) store.remember(stored);
  }

  #podsOf(service: InferenceService): Pod[] {
    return this.#options.world.pods
      .by("service", keyOf(service))
      .filter(({ metadata }) =>
        (metadata.ownerReferences ?? []).some(({ uid }) => uid === service.metadata.uid),
      );
  }

  #podOf(service: InferenceService, name: string): Pod | undefined {
    return this.#podsOf(service).find(({ metadata }) => metadata.name === name);
  }

  #call<T>(call: Parameters<Transport["call"]>[0]): Promise<T> {
    return this.#options.transport.call<T>({ ...call, signal: this.#signal });
  }
}

/** What another spec or other rights alone can mend, in words; anything else as it is. */
function refusalOf(error: unknown): unknown {
  if (!(error instanceof ApiError)) return error;
  const { code, message } = error;
  const isQuota = message.includes("exceeded quota");
  if (code === 403 && isQuota) {
    const remedy = "Raise the namespace's ResourceQuota, or lower spec.resources.";
    return new TerminalError(message, { reason: "QuotaExceeded", remedy, cause: error });
  }
  if (code === 403) {
    const remedy =
      "Allow it to the operator's ServiceAccount, or ask who set the admission policy.";
    return new TerminalError(message, { reason: "Forbidden", remedy, cause: error });
  }
  if (code === 400 || code === 422) {
    const remedy = "Correct spec.template or the field that it names.";
    return new TerminalError(message, { reason: "InvalidSpec", remedy, cause: error });
  }
  return error;
}

function unlessGone(error: unknown): undefined {
  if (isCode(error, 404)) return undefined;
  throw error;
}
