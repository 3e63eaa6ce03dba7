import { join } from "node:path";
import type { InferenceService, InferenceServiceStatus } from "../api/inference-service.ts";
import { policyFor } from "../autoscaler/scaling-settings.ts";
import type { ModelRoute, Replicas } from "../gateway/replicas.ts";
import type { Cluster, Observation } from "../inference-service/reconcile.ts";
import type { ServiceEvent } from "../reconcile/events.ts";
import type { ObservedPod } from "../reconcile/observed-pod.ts";
import { type NewPod, servedNames } from "../reconcile/pod-template.ts";
import type { ScalingDecision, ServiceLoad } from "../reconcile/scaling.ts";
import { conditionOf } from "../reconcile/status.ts";
import { GpuPool } from "./gpus.ts";
import { type ReplicaCommand, ReplicaProcess, type ReplicaTiming } from "./replica-process.ts";
import { type ServiceStore, serviceKey } from "./service-store.ts";

/** Time for an engine without requests to end by itself. */
const deleteGraceMs = 10_000;

export interface ProcessClusterOptions {
  readonly store: ServiceStore;
  /** Folder of the replicas' logs and last words. */
  readonly runFolder: string;
  /** The program that a replica runs; arguments and variables of the pod template come after its own. */
  readonly program: ReplicaCommand;
  readonly gpus: readonly string[];
  readonly timing: ReplicaTiming;
  /** Where clients reach every service. */
  readonly url: string;
  /** Requests that the gateway has at a replica. */
  readonly inFlightOf: (podName: string) => number;
  readonly onChange: (key: string) => void;
  readonly onEvent: (service: InferenceService, event: ServiceEvent) => void;
}

/** A pod of `quire up`: waiting for GPUs, or a process. */
export interface LocalPod {
  readonly key: string;
  readonly spec: NewPod;
  readonly createdAt: Date;
  readonly gpus: readonly string[];
  readonly replica: ReplicaProcess | undefined;
  readonly unschedulable: string | undefined;
  readonly deleted: boolean;
}

/** The world as reconcile and gateway see it, where every pod is a process of this machine. */
export class ProcessCluster implements Cluster, Replicas {
  readonly #options: ProcessClusterOptions;
  readonly #gpus: GpuPool;
  readonly #pods = new Map<string, LocalPod>();
  #decisions: ReadonlyMap<string, ScalingDecision> = new Map();
  #loads: ReadonlyMap<string, ServiceLoad> = new Map();
  #ending = false;

  constructor(options: ProcessClusterOptions) {
    this.#options = options;
    this.#gpus = new GpuPool(options.gpus);
  }

  pods(): LocalPod[] {
    return [...this.#pods.values()];
  }

  podsOf(key: string): ObservedPod[] {
    const pods = this.pods().filter((pod) => pod.key === key);
    return pods.map((pod) => observedPod(pod, this.#options.inFlightOf(pod.spec.name)));
  }

  /** What the autoscaler decided and the engines said, both by the service's key. */
  setScaling(
    decisions: ReadonlyMap<string, ScalingDecision>,
    loads: ReadonlyMap<string, ServiceLoad>,
  ): void {
    this.#decisions = decisions;
    this.#loads = loads;
  }

  async getService(key: string): Promise<InferenceService | undefined> {
    return this.#options.store.get(key);
  }

  async observe(service: InferenceService): Promise<Observation> {
    const key = serviceKey(service);
    const policy = policyFor(service, this.#options.store.policies(), {});
    const decision = this.#decisions.get(key);
    const load = this.#loads.get(key);
    return {
      pods: this.podsOf(key),
      ...(policy === undefined ? {} : { policy }),
      ...(decision === undefined ? {} : { decision }),
      ...(load === undefined ? {} : { load }),
      url: this.#options.url,
    };
  }

  /** The gateway finds the replicas by itself: nothing stands around them. */
  async prepare(): Promise<void> {}

  async createPod(service: InferenceService, spec: NewPod): Promise<void> {
    if (this.#ending || this.#pods.has(spec.name)) return;
    const waiting = {
      key: serviceKey(service),
      spec,
      createdAt: new Date(),
      gpus: [],
      replica: undefined,
      unschedulable: undefined,
      deleted: false,
    };
    this.#pods.set(spec.name, waiting);
    this.#place(waiting);
  }

  async drainPod(_: InferenceService, podName: string): Promise<void> {
    const pod = this.#pods.get(podName);
    pod?.replica?.stop(pod.spec.template.drainTimeoutMs);
  }

  async deletePod(_: InferenceService, podName: string): Promise<void> {
    const pod = this.#pods.get(podName);
    if (pod === undefined) return;
    if (pod.replica === undefined) {
      this.#remove(podName);
    } else {
      this.#pods.set(podName, { ...pod, deleted: true });
      pod.replica.stop(deleteGraceMs);
    }
  }

  async report(
    service: InferenceService,
    status: InferenceServiceStatus,
    events: readonly ServiceEvent[],
  ): Promise<void> {
    this.#options.store.setStatus(serviceKey(service), status);
    for (const event of events) this.#options.onEvent(service, event);
  }

  async release(service: InferenceService): Promise<void> {
    const key = serviceKey(service);
    this.#options.store.release(key, new Date());
    this.#options.onChange(key);
  }

  resolve(model: string): ModelRoute | undefined {
    return this.routes().find(({ modelNames }) => modelNames.includes(model));
  }

  routes(): ModelRoute[] {
    return this.#options.store.services().map((service) => ({
      service: service.metadata.name,
      modelNames: servedNames(service.metadata.name, service.spec),
      createdAt: new Date(service.metadata.creationTimestamp ?? 0),
      replicas: this.#endpointsOf(serviceKey(service)),
      readyMessage: this.#ending
        ? "quire up is ending"
        : (conditionOf(service.status, "Ready")?.message ?? "it has not been looked at yet"),
    }));
  }

  /**
   * Drains every replica, for good: from the call on, no request is taken and no pod made.
   *
   * @returns once no process is left
   */
  async drainAll(): Promise<void> {
    this.#ending = true;
    const pods = this.pods();
    for (const { replica, spec } of pods) replica?.stop(spec.template.drainTimeoutMs);
    await Promise.all(pods.map(({ replica }) => replica?.finished));
  }

  killAll(): void {
    for (const { replica } of this.pods()) replica?.kill();
  }

  #endpointsOf(key: string) {
    return this.pods().flatMap(({ key: of, spec, replica }) =>
      of === key && replica?.ready === true && replica.port !== undefined
        ? [{ name: spec.name, host: "127.0.0.1", port: replica.port }]
        : [],
    );
  }

  /** Starts a pod's process if the machine has its GPUs free. */
  #place(pod: LocalPod): void {
    const { name, template } = pod.spec;
    const gpus = this.#gpus.take(template.resources.gpuCount);
    if (typeof gpus === "string") {
      this.#pods.set(name, { ...pod, unschedulable: gpus });
      this.#options.onChange(pod.key);
      return;
    }
    const { program, runFolder, timing, onChange } = this.#options;
    const replica = new ReplicaProcess({
      name,
      command: commandOf(program, pod.spec, gpus),
      logFile: join(runFolder, `${name}.log`),
      terminationFile: join(runFolder, `${name}.termination`),
      timing,
      onChange: () => onChange(pod.key),
    });
    this.#pods.set(name, { ...pod, gpus, replica, unschedulable: undefined });
    void replica.finished.then(() => this.#remove(name));
  }

  #remove(name: string): void {
    const pod = this.#pods.get(name);
    if (pod === undefined) return;
    this.#pods.delete(name);
    this.#gpus.give(pod.gpus);
    if (pod.gpus.length > 0 && !this.#ending) this.#placeWaiting();
    this.#options.onChange(pod.key);
  }

  /** The pod that has waited longest first. */
  #placeWaiting(): void {
    for (const pod of this.pods()) if (pod.unschedulable !== undefined) this.#place(pod);
  }
}

function commandOf(
  { program, args, env }: ReplicaCommand,
  { template }: NewPod,
  gpus: readonly string[],
): ReplicaCommand {
  const { memoryBytes } = template.resources.limits;
  return {
    program,
    args: [...args, ...template.args],
    env: {
      ...env,
      ...Object.fromEntries(template.env.map(({ name, value }) => [name, value])),
      ...(gpus.length === 0 ? {} : { CUDA_VISIBLE_DEVICES: gpus.join(",") }),
      // Nobody but the engine itself keeps a process to its limit.
      ...(memoryBytes === undefined ? {} : { QUIRE_MEMORY_BYTES: String(memoryBytes) }),
    },
  };
}

function observedPod(pod: LocalPod, inFlight: number): ObservedPod {
  const { replica, spec, createdAt, unschedulable } = pod;
  const { drainingSince, startup, termination } = replica ?? {};
  return {
    name: spec.name,
    templateHash: spec.template.hash,
    ordinal: spec.ordinal,
    phase: pod.deleted ? "Terminating" : replica === undefined ? "Pending" : "Running",
    ready: replica?.ready ?? false,
    createdAt,
    restartCount: replica?.restartCount ?? 0,
    inFlight,
    ...(drainingSince === undefined ? {} : { drainingSince }),
    ...(startup === undefined ? {} : { startup }),
    ...(termination === undefined ? {} : { termination }),
    ...(unschedulable === undefined ? {} : { unschedulable }),
  };
}
