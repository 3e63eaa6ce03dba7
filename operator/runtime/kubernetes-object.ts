import type { V1ObjectMeta } from "@kubernetes/client-node";

/** A type of the client library as JSON carries it: times are RFC 3339 text, nothing is changed. */
export type Wire<T> = T extends Date
  ? string
  : T extends readonly (infer Item)[]
    ? readonly Wire<Item>[]
    : T extends object
      ? { readonly [K in keyof T]: Wire<T[K]> }
      : T;

export type Metadata = Wire<V1ObjectMeta>;

/** An object as the API server returns it. */
export interface KubernetesObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
  };
}

/** A type of the client library, read from the API server: it has a name. */
export type Stored<T extends { metadata?: V1ObjectMeta }> = Omit<Wire<T>, "metadata"> & {
  readonly metadata: Metadata & { readonly name: string };
};

/** Kind of object, by its place in the API. */
export interface Resource {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
}

/** `namespace/name`, or the name alone of what is cluster-scoped. */
export function keyOf({ metadata }: KubernetesObject): string {
  const { namespace, name } = metadata;
  return namespace === undefined ? name : `${namespace}/${name}`;
}

export function apiVersionOf({ group, version }: Resource): string {
  return group === "" ? version : `${group}/${version}`;
}

/** Path of a collection; of all namespaces where none is given. */
export function collectionPath(resource: Resource, namespace?: string): string {
  const root = resource.group === "" ? "/api" : "/apis";
  const scope = namespace === undefined ? "" : `/namespaces/${encodeURIComponent(namespace)}`;
  return `${root}/${apiVersionOf(resource)}${scope}/${resource.plural}`;
}

export function objectPath(
  resource: Resource,
  { name, namespace }: { readonly name: string; readonly namespace?: string | undefined },
): string {
  return `${collectionPath(resource, namespace)}/${encodeURIComponent(name)}`;
}
