import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { AutoscalingPolicy } from "../api/autoscaling-policy.ts";
import type { InferenceService, InferenceServiceStatus } from "../api/inference-service.ts";
import { drainFinalizer } from "../api/names.ts";
import type { Resource } from "../validation/validate.ts";

const defaultNamespace = "default";

/**
 * The objects that a manifest asks for, with what an API server would keep about them: identity,
 * generation, age, status, and a deletion that waits for the pods.
 */
export class ServiceStore {
  readonly #services = new Map<string, InferenceService>();
  readonly #policies = new Map<string, AutoscalingPolicy>();
  #manifests = new Map<string, InferenceService>();

  get(key: string): InferenceService | undefined {
    return this.#services.get(key);
  }

  services(): InferenceService[] {
    return [...this.#services.values()];
  }

  policies(): AutoscalingPolicy[] {
    return [...this.#policies.values()];
  }

  /**
   * Makes `resources` all that is asked for: what is not among them is deleted.
   *
   * @returns keys of the services to look at
   */
  apply(resources: readonly Resource[], now: Date): string[] {
    const services = resources.filter((resource) => resource.kind === "InferenceService");
    this.#manifests = new Map(services.map((service) => [serviceKey(service), service]));
    this.#applyPolicies(
      resources.filter((resource) => resource.kind === "AutoscalingPolicy"),
      now,
    );
    for (const key of this.#manifests.keys()) this.#applyService(key, now);
    for (const [key, service] of this.#services) {
      if (!this.#manifests.has(key)) this.#services.set(key, deleted(service, now));
    }
    return [...this.#services.keys()];
  }

  setStatus(key: string, status: InferenceServiceStatus): void {
    const service = this.#services.get(key);
    if (service !== undefined) this.#services.set(key, { ...service, status });
  }

  /** Ends a deletion. A service that was asked for again in the meantime begins anew. */
  release(key: string, now: Date): void {
    this.#services.delete(key);
    this.#applyService(key, now);
  }

  #applyService(key: string, now: Date): void {
    const manifest = this.#manifests.get(key);
    if (manifest === undefined) return;
    const before = this.#services.get(key);
    if (before?.metadata.deletionTimestamp !== undefined) return;
    this.#services.set(key, {
      ...manifest,
      metadata: { namespace: defaultNamespace, ...keptMetadata(manifest, before, now) },
      ...(before?.status === undefined ? {} : { status: before.status }),
    });
  }

  #applyPolicies(manifests: readonly AutoscalingPolicy[], now: Date): void {
    const before = new Map(this.#policies);
    this.#policies.clear();
    for (const manifest of manifests) {
      const { name } = manifest.metadata;
      const { finalizers: _, ...metadata } = keptMetadata(manifest, before.get(name), now);
      this.#policies.set(name, { ...manifest, metadata });
    }
  }
}

/** `NAMESPACE/NAME`, as in Kubernetes. */
export function serviceKey({ metadata }: Pick<InferenceService, "metadata">): string {
  return `${metadata.namespace ?? defaultNamespace}/${metadata.name}`;
}

function keptMetadata(manifest: Resource, before: Resource | undefined, now: Date) {
  const { generation = 0, uid, creationTimestamp } = before?.metadata ?? {};
  const changed = !isDeepStrictEqual(before?.spec, manifest.spec);
  return {
    ...manifest.metadata,
    uid: uid ?? randomUUID(),
    generation: changed ? generation + 1 : generation,
    creationTimestamp: creationTimestamp ?? now.toISOString(),
    finalizers: [drainFinalizer],
  };
}

function deleted(service: InferenceService, now: Date): InferenceService {
  if (service.metadata.deletionTimestamp !== undefined) return service;
  const metadata = { ...service.metadata, deletionTimestamp: now.toISOString() };
  return { ...service, metadata };
}
