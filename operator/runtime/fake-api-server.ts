/** An API server as far as the runtime's tests ask: objects by path, watches, and faults on demand. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Connection, Credentials } from "./credentials.ts";

export interface FakeObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage["headers"];
  readonly body: unknown;
  /** Counts connections, so that a test sees which request came over which. */
  readonly connection: number;
}

/** What happens to a request instead of an answer. */
export type Fault =
  | { readonly status: number; readonly body?: unknown; readonly headers?: Record<string, string> }
  | "cut"
  | "hang";

interface Selection {
  readonly path: string;
  readonly query: URLSearchParams;
}

interface Watcher extends Selection {
  readonly response: ServerResponse;
}

/** Whether an object's path lies in a collection, of one namespace or of all, and its labels fit. */
function selects({ path, query }: Selection, objectPath: string, object: FakeObject): boolean {
  const paths = [objectPath, objectPath.replace(/\/namespaces\/[^/]+(?=\/)/, "")];
  const [label = "", value] = (query.get("labelSelector") ?? "").split("=");
  const labels = object.metadata["labels"] as Readonly<Record<string, string>> | undefined;
  return (
    paths.some((one) => one.slice(0, one.lastIndexOf("/")) === path) &&
    (value === undefined || labels?.[label] === value)
  );
}

export class FakeApiServer implements Credentials {
  readonly requests: SeenRequest[] = [];
  /** Asked for each request; the first that answers decides. */
  readonly faults: ((request: SeenRequest) => Fault | undefined)[] = [];
  token = "first";
  refusedCount = 0;
  readonly #server: Server;
  readonly #objects = new Map<string, FakeObject>();
  /** All changes, for watches that begin in the past. */
  #log: {
    readonly version: number;
    readonly type: string;
    readonly path: string;
    readonly object: FakeObject;
  }[] = [];
  #oldest = 0;
  #version = 0;
  #watchers: Watcher[] = [];
  #connectionCount = 0;
  readonly #connectionOf = new WeakMap<object, number>();

  constructor() {
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#server.on("connection", (socket) => {
      this.#connectionCount++;
      this.#connectionOf.set(socket, this.#connectionCount);
    });
  }

  async listen(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return this;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async current(): Promise<Connection> {
    const { port } = this.#server.address() as AddressInfo;
    const headers = { Authorization: `Bearer ${this.token}` };
    return { origin: `http://127.0.0.1:${port}`, headers, tls: {} };
  }

  refused(): void {
    this.refusedCount++;
  }

  get watchCount(): number {
    return this.#watchers.length;
  }

  objects(): FakeObject[] {
    return [...this.#objects.values()];
  }

  get(path: string): FakeObject | undefined {
    return this.#objects.get(path);
  }

  /** Stores an object under a collection, as another client would have. */
  put(collection: string, object: FakeObject): FakeObject {
    const path = `${collection}/${object.metadata.name}`;
    const known = this.#objects.get(path);
    const uid = object.metadata.uid ?? known?.metadata.uid ?? `uid-${this.#version + 1}`;
    return this.#change(path, known === undefined ? "ADDED" : "MODIFIED", {
      ...object,
      metadata: { ...object.metadata, uid },
    });
  }

  remove(path: string): void {
    const known = this.#objects.get(path);
    if (known !== undefined) this.#change(path, "DELETED", known);
  }

  /** Forgets the past: watches from before are told 410. */
  compact(): void {
    this.#log = [];
    this.#oldest = this.#version;
  }

  bookmark(): void {
    const metadata = { resourceVersion: String(this.#version) };
    for (const { response } of this.#watchers) send(response, "BOOKMARK", { metadata });
  }

  /** Breaks every watch in the middle. */
  cutWatches(): void {
    for (const { response } of this.#watchers) response.destroy();
    this.#watchers = [];
  }

  /** Sends something to every watch, such as an ERROR. */
  sendToWatches(type: string, object: unknown): void {
    for (const { response } of this.#watchers) send(response, type, object);
  }

  #change(path: string, type: string, object: FakeObject): FakeObject {
    this.#version++;
    const metadata = { ...object.metadata, resourceVersion: String(this.#version) };
    const stored = { ...object, metadata };
    if (type === "DELETED") this.#objects.delete(path);
    else this.#objects.set(path, stored);
    this.#log.push({ version: this.#version, type, path, object: stored });
    for (const watcher of this.#watchers) {
      if (selects(watcher, path, stored)) send(watcher.response, type, stored);
    }
    return stored;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://fake");
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const seen: SeenRequest = {
      method: request.method ?? "",
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      body: text === "" ? undefined : JSON.parse(text),
      connection: this.#connectionOf.get(request.socket) ?? 0,
    };
    this.requests.push(seen);
    const fault = this.faults.map((ask) => ask(seen)).find((found) => found !== undefined);
    if (fault === "hang") return;
    if (fault === "cut") response.destroy();
    else if (fault !== undefined) answer(response, { code: fault.status, ...fault });
    else if (seen.query.has("watch")) this.#watch(seen, response);
    else answer(response, this.#replyTo(seen));
  }

  #replyTo(seen: SeenRequest): Reply {
    if (seen.method === "GET") return this.#read(seen);
    if (seen.method === "POST") return this.#create(seen);
    const path = seen.path.replace(/\/status$/, "");
    const known = this.#objects.get(path);
    const isApply = seen.headers["content-type"] === "application/apply-patch+yaml";
    if (known === undefined && !isApply) return refusal(404, "NotFound");
    if (seen.method !== "DELETE") return this.#write(seen, path, known);
    return this.#delete(path, known);
  }

  /** As for the real one, an object with finalizers stays until those are gone. */
  #delete(path: string, known: FakeObject | undefined): Reply {
    const finalizers = known?.metadata["finalizers"] as readonly string[] | undefined;
    if (known === undefined || finalizers === undefined || finalizers.length === 0) {
      this.remove(path);
      return { code: 200, body: { kind: "Status", status: "Success" } };
    }
    const metadata = { ...known.metadata, deletionTimestamp: new Date().toISOString() };
    return { code: 200, body: this.#change(path, "MODIFIED", { ...known, metadata }) };
  }

  #write({ body, headers }: SeenRequest, path: string, known: FakeObject | undefined): Reply {
    if (Array.isArray(body)) {
      const changed = patched(known as FakeObject, body);
      if (changed === undefined) return refusal(422, "Invalid");
      return { code: 200, body: this.#change(path, "MODIFIED", changed) };
    }
    const given = body as FakeObject;
    const { uid, resourceVersion } = known?.metadata ?? {};
    const isStale =
      (given.metadata?.uid ?? uid) !== uid ||
      (given.metadata?.resourceVersion ?? resourceVersion) !== resourceVersion;
    if (isStale) return refusal(409, "Conflict");
    const isMerge = headers["content-type"] === "application/merge-patch+json";
    const metadata = known?.metadata ?? { uid: `uid-${this.#version + 1}` };
    const changed = merged(isMerge ? known : { metadata }, given) as FakeObject;
    const stored = this.#change(path, known ? "MODIFIED" : "ADDED", changed);
    if (isLetGo(stored)) this.remove(path);
    return { code: 200, body: stored };
  }

  #create({ path, body }: SeenRequest): Reply {
    const object = body as FakeObject;
    const exists = this.#objects.has(`${path}/${object.metadata.name}`);
    return exists ? refusal(409, "AlreadyExists") : { code: 201, body: this.put(path, object) };
  }

  /** A path whose last name has a digit or is `absent` is an object's, any other a collection's. */
  #read({ path, query }: SeenRequest): Reply {
    const object = this.#objects.get(path);
    if (object !== undefined) return { code: 200, body: object };
    const items = [...this.#objects].filter(([key, item]) => selects({ path, query }, key, item));
    if (items.length === 0 && /\/absent$/.test(path)) return refusal(404, "NotFound");
    const start = Number(query.get("continue") ?? 0);
    const end = start + Number(query.get("limit") ?? items.length);
    const next = end < items.length ? { continue: String(end) } : {};
    const metadata = { resourceVersion: String(this.#version), ...next };
    return {
      code: 200,
      body: { metadata, items: items.slice(start, end).map(([, item]) => item) },
    };
  }

  #watch({ path, query }: SeenRequest, response: ServerResponse): void {
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
    const from = Number(query.get("resourceVersion"));
    if (from < this.#oldest) {
      send(response, "ERROR", refusal(410, "Expired").body);
      response.end();
      return;
    }
    for (const { version, type, path: of, object } of this.#log) {
      if (version > from && selects({ path, query }, of, object)) send(response, type, object);
    }
    this.#watchers.push({ path, query, response });
    response.on("close", () => {
      this.#watchers = this.#watchers.filter((watcher) => watcher.response !== response);
    });
  }
}

interface Reply {
  readonly code: number;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

/** Deleted, and held by nobody any more. */
function isLetGo({ metadata }: FakeObject): boolean {
  const finalizers = metadata["finalizers"] as readonly string[] | undefined;
  return metadata["deletionTimestamp"] !== undefined && !finalizers?.length;
}

function refusal(code: number, reason: string): Reply {
  return { code, body: { kind: "Status", code, reason, message: `fake: ${reason}` } };
}

function send(response: ServerResponse, type: string, object: unknown): void {
  response.write(`${JSON.stringify({ type, object })}\n`);
}

function answer(response: ServerResponse, { code, body = {}, headers = {} }: Reply): void {
  response.writeHead(code, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

/**
 * JSON Patch as far as the runtime writes it: `test`, `add` and `remove`.
 *
 * @returns `undefined` where a test fails
 */
function patched(
  object: FakeObject,
  operations: readonly { readonly op: string; readonly path: string; readonly value?: unknown }[],
): FakeObject | undefined {
  const copy: unknown = structuredClone(object);
  for (const { op, path, value } of operations) {
    const names = path.slice(1).split("/");
    const last = (names.pop() ?? "").replaceAll("~1", "/");
    const parent = names.reduce(
      (at, name) => at[name] as Record<string, unknown>,
      copy as Record<string, unknown>,
    );
    if (op === "test" && parent[last] !== value) return undefined;
    if (op === "add") parent[last] = value;
    if (op === "remove") delete parent[last];
  }
  return copy as FakeObject;
}

/** JSON Merge Patch (RFC 7386). */
function merged(base: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const isMap = typeof base === "object" && base !== null && !Array.isArray(base);
  const result: Record<string, unknown> = isMap ? { ...base } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = merged(result[name], value);
  }
  return result;
}
