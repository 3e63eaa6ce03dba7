import type {
  V1Namespace,
  V1NetworkPolicy,
  V1PodDisruptionBudget,
  V1Service,
} from "@kubernetes/client-node";
import type { AutoscalingPolicy } from "../api/autoscaling-policy.ts";
import type { InferenceService } from "../api/inference-service.ts";
import { labels } from "../api/names.ts";
import {
  type KubernetesObject,
  keyOf,
  type Metadata,
  type Resource,
  type Stored,
} from "../runtime/kubernetes-object.ts";
import { Reflector } from "../runtime/reflector.ts";
import { Store } from "../runtime/store.ts";
import type { Transport } from "../runtime/transport.ts";
import type { Pod } from "./pod-manifest.ts";
import { resources } from "./resources.ts";

export interface WorldOptions {
  readonly transport: Transport;
  /** Absent watches every namespace. */
  readonly namespace: string | undefined;
  readonly onError: (resource: Resource, error: unknown) => void;
  readonly onList: (resource: Resource) => void;
}

/** An object that the operator made for a service. */
type Owned = KubernetesObject & { readonly metadata: Metadata };

/** Everything that the operator reads of the cluster, as last seen. */
export class World {
  readonly services = new Store<InferenceService>();
  readonly policies = new Store<AutoscalingPolicy>();
  readonly namespaces = new Store<Stored<V1Namespace>>({ transform: slimNamespace });
  readonly pods = new Store<Pod, "service">({
    transform: slimPod,
    indexes: { service: (pod) => ownerKeys(pod) },
  });
  readonly fronts = new Store<Stored<V1Service>>();
  readonly disruptionBudgets = new Store<Stored<V1PodDisruptionBudget>>();
  readonly networkPolicies = new Store<Stored<V1NetworkPolicy>>();
  readonly #options: WorldOptions;

  constructor(options: WorldOptions) {
    this.#options = options;
  }

  /** Whether every kind was listed once. */
  get hasSynced(): boolean {
    return this.#stores().every((store) => store.hasSynced);
  }

  async synced(): Promise<void> {
    await Promise.all(this.#stores().map((store) => store.synced));
  }

  /** Told of each service that something has changed for. */
  subscribe(listener: (key: string) => void): void {
    this.services.subscribe(({ before, after }) => {
      // Our own writes of the status are no news; what others write counts a generation or metadata.
      const object = after ?? before;
      if (object !== undefined && !isStatusAlone(before, after)) listener(keyOf(object));
    });
    for (const store of [this.pods, this.fronts, this.disruptionBudgets, this.networkPolicies]) {
      store.subscribe(({ before, after }) => {
        for (const key of new Set([before, after].flatMap((object) => ownerKeys(object)))) {
          listener(key);
        }
      });
    }
    const all = () => {
      for (const service of this.services.values()) listener(keyOf(service));
    };
    this.policies.subscribe(({ before, after }) => {
      if (JSON.stringify(before?.spec) !== JSON.stringify(after?.spec)) all();
    });
    this.namespaces.subscribe(({ before, after }) => {
      const [then, now] = [before, after].map((object) => JSON.stringify(object?.metadata.labels));
      if (then !== now && before !== undefined && after !== undefined) all();
    });
  }

  namespaceLabels(namespace: string | undefined): Readonly<Record<string, string>> {
    return this.namespaces.get(namespace ?? "")?.metadata.labels ?? {};
  }

  /** Watches until `signal`. */
  async run(signal: AbortSignal): Promise<void> {
    const { transport, namespace, onError, onList } = this.#options;
    const managed = { labelSelector: `${labels.managed}=true` };
    const watch = <T extends KubernetesObject>(
      resource: Resource,
      store: Store<T> | Store<T, "service">,
      scope: { readonly namespace?: string | undefined; readonly labelSelector?: string },
    ) => new Reflector<T>({ transport, resource, store, onError, onList, ...scope }).run(signal);
    const own = { namespace, ...managed };
    const watches = [
      watch(resources.inferenceServices, this.services, { namespace }),
      watch(resources.pods, this.pods, own),
      watch(resources.services, this.fronts, own),
      watch(resources.disruptionBudgets, this.disruptionBudgets, own),
      watch(resources.networkPolicies, this.networkPolicies, own),
    ];
    // Whoever may see one namespace alone may not see what belongs to the cluster.
    if (namespace === undefined) {
      watches.push(watch(resources.autoscalingPolicies, this.policies, {}));
      watches.push(watch(resources.namespaces, this.namespaces, {}));
    }
    await Promise.all(watches);
  }

  #stores() {
    const ofCluster = this.#options.namespace === undefined ? [this.policies, this.namespaces] : [];
    const { services, pods, fronts, disruptionBudgets, networkPolicies } = this;
    return [services, pods, fronts, disruptionBudgets, networkPolicies, ...ofCluster];
  }
}

function isStatusAlone(before: InferenceService | undefined, after: InferenceService | undefined) {
  if (before === undefined || after === undefined) return false;
  const strip = ({ status: _, metadata, ...rest }: InferenceService) => {
    const { resourceVersion: __, ...kept } = metadata;
    return JSON.stringify({ ...rest, metadata: kept });
  };
  return before.metadata.uid === after.metadata.uid && strip(before) === strip(after);
}

/** Keys of the service that an object was made for. */
function ownerKeys(object: Owned | undefined): string[] {
  const name = object?.metadata.labels?.[labels.inferenceService];
  return name === undefined ? [] : [`${object?.metadata.namespace}/${name}`];
}

/** Specs of pods are most of their bytes, and nobody reads them again. */
function slimPod({ spec = { containers: [] }, ...pod }: Pod): Pod {
  const { nodeName, readinessGates } = spec;
  return {
    ...pod,
    spec: {
      containers: [],
      ...(nodeName === undefined ? {} : { nodeName }),
      ...(readinessGates === undefined ? {} : { readinessGates }),
    },
  };
}

function slimNamespace({ metadata }: Stored<V1Namespace>): Stored<V1Namespace> {
  return { metadata };
}
