import { type KubernetesObject, keyOf } from "./kubernetes-object.ts";

/** `before` is absent for a new object, `after` for one that is gone. */
export interface Change<T> {
  readonly before: T | undefined;
  readonly after: T | undefined;
}

export interface StoreOptions<T, Index extends string> {
  /** What is kept of an object; `managedFields` is dropped by itself. */
  readonly transform?: (object: T) => T;
  /** Values that an object is found by, for each index. */
  readonly indexes?: Readonly<Record<Index, (object: T) => readonly string[]>>;
}

/**
 * The objects of one kind, as last seen.
 *
 * Events come in the order of resource versions, but answers to our own writes overtake them: an
 * object is replaced only by a newer version, so that a reader sees its own writes.
 */
export class Store<T extends KubernetesObject, Index extends string = never> {
  readonly #options: StoreOptions<T, Index>;
  readonly #objects = new Map<string, T>();
  readonly #indexes = new Map<Index, Map<string, Set<string>>>();
  readonly #listeners: ((change: Change<T>) => void)[] = [];
  readonly #synced = Promise.withResolvers<void>();
  /** Everything up to here has been seen: no older answer can tell anything new. */
  #seenVersion = 0n;
  #hasSynced = false;

  constructor(options: StoreOptions<T, Index> = {}) {
    this.#options = options;
    for (const name of Object.keys(options.indexes ?? {}) as Index[]) {
      this.#indexes.set(name, new Map());
    }
  }

  /** Resolves once the first list is in. */
  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  get size(): number {
    return this.#objects.size;
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  values(): T[] {
    return [...this.#objects.values()];
  }

  by(index: Index, value: string): T[] {
    const keys = this.#indexes.get(index)?.get(value) ?? [];
    return [...keys].flatMap((key) => this.#objects.get(key) ?? []);
  }

  /** Called after each change, with the store already changed. */
  subscribe(listener: (change: Change<T>) => void): void {
    this.#listeners.push(listener);
  }

  /** Takes a whole list: what it lacks was deleted unnoticed. */
  replace(objects: readonly T[], resourceVersion: string): void {
    const listVersion = BigInt(resourceVersion);
    const listed = new Set(objects.map(keyOf));
    for (const [key, known] of this.#objects) {
      if (!listed.has(key) && versionOf(known) <= listVersion) this.#remove(key, known);
    }
    for (const object of objects) this.#put(object);
    this.seen(resourceVersion);
    this.#hasSynced = true;
    this.#synced.resolve();
  }

  /** Takes one event of a watch. */
  apply(type: "ADDED" | "MODIFIED" | "DELETED", object: T): void {
    const key = keyOf(object);
    const known = this.#objects.get(key);
    if (type !== "DELETED") this.#put(object);
    else if (known !== undefined && !isNewer(known, object)) this.#remove(key, known);
    if (object.metadata.resourceVersion !== undefined) this.seen(object.metadata.resourceVersion);
  }

  /** Takes the answer to one of our own writes, unless the watch has been past it. */
  remember(object: T): void {
    if (versionOf(object) > this.#seenVersion) this.#put(object);
  }

  /** Everything up to this version has been seen. */
  seen(resourceVersion: string): void {
    const version = BigInt(resourceVersion);
    if (version > this.#seenVersion) this.#seenVersion = version;
  }

  #put(received: T): void {
    const key = keyOf(received);
    const before = this.#objects.get(key);
    if (before !== undefined && !isNewer(received, before)) return;
    const slim = withoutManagedFields(received);
    const after = this.#options.transform?.(slim) ?? slim;
    if (before !== undefined && before.metadata.uid !== after.metadata.uid) {
      // Deleted and made again while nobody looked: whoever knew the first must hear of its end.
      this.#remove(key, before);
      this.#insert(key, undefined, after);
    } else {
      this.#insert(key, before, after);
    }
  }

  #insert(key: string, before: T | undefined, after: T): void {
    if (before !== undefined) this.#unindex(key, before);
    this.#objects.set(key, after);
    this.#eachIndexValue(after, (values, value) => {
      const keys = values.get(value);
      if (keys === undefined) values.set(value, new Set([key]));
      else keys.add(key);
    });
    this.#tell({ before, after });
  }

  #remove(key: string, before: T): void {
    this.#unindex(key, before);
    this.#objects.delete(key);
    this.#tell({ before, after: undefined });
  }

  #unindex(key: string, object: T): void {
    this.#eachIndexValue(object, (values, value) => {
      const keys = values.get(value);
      keys?.delete(key);
      if (keys?.size === 0) values.delete(value);
    });
  }

  #eachIndexValue(object: T, visit: (values: Map<string, Set<string>>, value: string) => void) {
    for (const [name, values] of this.#indexes) {
      for (const value of this.#options.indexes?.[name](object) ?? []) visit(values, value);
    }
  }

  #tell(change: Change<T>): void {
    for (const listener of this.#listeners) listener(change);
  }
}

function isNewer(a: KubernetesObject, b: KubernetesObject): boolean {
  return versionOf(a) > versionOf(b);
}

// Kubernetes promises since 1.35 that resource versions of one kind compare as numbers.
function versionOf({ metadata }: KubernetesObject): bigint {
  return BigInt(metadata.resourceVersion ?? "0");
}

function withoutManagedFields<T extends KubernetesObject>(object: T): T {
  if (!("managedFields" in object.metadata)) return object;
  const { managedFields: _, ...metadata } = object.metadata;
  return { ...object, metadata };
}
