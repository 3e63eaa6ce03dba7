import { type KubernetesObject, objectPath, type Resource } from "./kubernetes-object.ts";
import type { Transport } from "./transport.ts";

/**
 * Replaces the whole status of an object, and of no other that came to have its name.
 *
 * @returns the object as it is stored afterwards
 */
export function patchStatus<T extends KubernetesObject>(
  transport: Pick<Transport, "call">,
  resource: Resource,
  object: T,
  status: unknown,
  signal?: AbortSignal,
): Promise<T> {
  return transport.call<T>({
    method: "PATCH",
    path: `${objectPath(resource, object.metadata)}/status`,
    contentType: "application/json-patch+json",
    body: [
      { op: "test", path: "/metadata/uid", value: object.metadata.uid },
      // A merge could not take a field away.
      { op: "add", path: "/status", value: status },
    ],
    signal,
  });
}
