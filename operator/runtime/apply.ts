import { createHash } from "node:crypto";
import {
  apiVersionOf,
  type KubernetesObject,
  type Metadata,
  objectPath,
  type Resource,
} from "./kubernetes-object.ts";
import type { Transport } from "./transport.ts";

/** What an object should have; what it leaves out belongs to others. */
export interface AppliedObject {
  readonly metadata: Metadata & { readonly name: string };
  readonly [field: string]: unknown;
}

export interface ApplierOptions {
  readonly transport: Pick<Transport, "call">;
  /** Owner of the fields that are applied, and of no others. */
  readonly fieldManager: string;
  /** Annotation that remembers what was applied, so that removed fields are noticed. */
  readonly hashAnnotation: string;
}

/** Server-side apply that is silent where nothing would change. */
export class Applier {
  readonly #options: ApplierOptions;

  constructor(options: ApplierOptions) {
    this.#options = options;
  }

  /**
   * @param live the object as last seen
   * @returns the object as it is stored afterwards; `undefined` where nothing was written
   */
  async apply<T extends KubernetesObject>(
    resource: Resource,
    desired: AppliedObject,
    live: T | undefined,
    signal?: AbortSignal,
  ): Promise<T | undefined> {
    const { transport, fieldManager, hashAnnotation } = this.#options;
    const hash = createHash("sha256").update(JSON.stringify(desired)).digest("hex").slice(0, 16);
    const annotations = { ...desired.metadata.annotations, [hashAnnotation]: hash };
    const body = {
      apiVersion: apiVersionOf(resource),
      kind: resource.kind,
      ...desired,
      metadata: { ...desired.metadata, annotations },
    };
    // The hash finds what was taken out of the desired object, the comparison what others changed.
    if (live !== undefined && contains(live, { ...desired, metadata: body.metadata })) {
      return undefined;
    }
    return transport.call<T>({
      method: "PATCH",
      path: objectPath(resource, desired.metadata),
      query: { fieldManager, force: true },
      contentType: "application/apply-patch+yaml",
      body,
      signal,
    });
  }
}

/** Whether everything in `part` is in `whole`; fields of `whole` alone do not matter. */
function contains(whole: unknown, part: unknown): boolean {
  if (typeof part !== "object" || part === null) return whole === part;
  if (typeof whole !== "object" || whole === null) return false;
  if (Array.isArray(part)) {
    return (
      Array.isArray(whole) &&
      whole.length === part.length &&
      part.every((item, i) => contains(whole[i], item))
    );
  }
  const fields = whole as Readonly<Record<string, unknown>>;
  return Object.entries(part).every(([name, value]) => contains(fields[name], value));
}
