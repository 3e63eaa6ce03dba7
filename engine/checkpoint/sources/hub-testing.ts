import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";

import { resolveModel } from "../sources.ts";
import { aSafetensors, temporaryFolder } from "../testing.ts";
import type { ResolvedModel, ResolveOptions } from "./resolve-options.ts";
import { type Handler, sendFile, serve } from "./testing.ts";

/** A hub on loopback for the tests of `hf://`. */
export interface Hub extends AsyncDisposable {
  readonly url: string;
  readonly requests: readonly string[];
  readonly files: Readonly<Record<string, Buffer>>;
  /** Lets its branches and tags stand for another commit. */
  readonly moveTo: (commit: string) => void;
  /** Answers requests whose URL contains `part` with `handler`; undefined ends that. */
  readonly override: (part: string | undefined, handler?: Handler) => void;
  /** Shows every request to `watcher` first. */
  readonly watch: (watcher: (request: IncomingMessage) => void) => void;
  readonly close: () => Promise<void>;
  readonly options: (more?: Partial<ResolveOptions>) => ResolveOptions;
  readonly resolve: (uri: string, more?: Partial<ResolveOptions>) => Promise<ResolvedModel>;
}

export const commit = "0123456789abcdef0123456789abcdef01234567";

export const weights = aSafetensors(
  { w: { dtype: "F32", shape: [50_000], data_offsets: [0, 200_000] } },
  200_000,
);

const aModel: Readonly<Record<string, Buffer>> = {
  "config.json": Buffer.from(`{"model_type": "llama"}`),
  "tokenizer.json": Buffer.from("{}"),
  "chat_template.jinja": Buffer.from("{{ messages }}"),
  "model.safetensors": weights,
  "README.md": Buffer.from("# Model"),
  "flax_model.msgpack": Buffer.from("x"),
};

/** A hub with the model `org/model`, whose branches and tags all stand for one commit. */
export async function aHub(files = aModel): Promise<Hub> {
  const folder = temporaryFolder();
  let current = commit;
  let overriding: { readonly part: string; readonly handler: Handler } | undefined;
  let watching: (request: IncomingMessage) => void = () => undefined;
  const server = await serve((request, response) => {
    watching(request);
    if (overriding !== undefined && request.url?.includes(overriding.part)) {
      overriding.handler(request, response);
    } else answer(files, current, request, response);
  });
  const options = (more: Partial<ResolveOptions> = {}): ResolveOptions => ({
    cacheDir: folder.path,
    hubUrl: server.url,
    ...more,
    limits: { backoffMs: 5, attempts: 3, ...more.limits },
  });
  const close = async () => await server[Symbol.asyncDispose]();
  return {
    url: server.url,
    requests: server.requests,
    files,
    moveTo: (to) => {
      current = to;
    },
    override: (part, handler = () => undefined) => {
      overriding = part === undefined ? undefined : { part, handler };
    },
    watch: (watcher) => {
      watching = watcher;
    },
    close,
    options,
    resolve: (uri, more) => resolveModel(uri, options(more)),
    async [Symbol.asyncDispose]() {
      await close();
      folder[Symbol.dispose]();
    },
  };
}

function answer(
  files: Readonly<Record<string, Buffer>>,
  current: string,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const { pathname } = new URL(request.url ?? "", "http://hub");
  const [, revision] = /^\/api\/models\/org\/model\/revision\/(.+)$/.exec(pathname) ?? [];
  if (revision !== undefined) {
    const sha = /^[0-9a-f]{40}$/.test(revision) ? revision : current;
    const tags = ["license:apache-2.0"];
    sendJson(response, { _id: "1", id: "org/model", sha, tags, lastModified: 0 });
    return;
  }
  const [, folder] = /^\/api\/models\/org\/model\/tree\/[0-9a-f]{40}\/?(.*)$/.exec(pathname) ?? [];
  if (folder !== undefined) {
    sendJson(response, listing(files, folder));
    return;
  }
  const [, name] = /^\/org\/model\/resolve\/[0-9a-f]{40}\/(.+)$/.exec(pathname) ?? [];
  const bytes = files[decodeURIComponent(name ?? "")];
  if (bytes === undefined) response.writeHead(404).end();
  else sendFile(request, response, bytes);
}

function listing(files: Readonly<Record<string, Buffer>>, folder: string) {
  return Object.entries(files)
    .filter(([path]) => (folder === "" ? true : path.startsWith(`${folder}/`)))
    .map(([path, bytes]) => {
      const git = createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
      const isLarge = /\.(safetensors|gguf|bin)$/.test(path);
      const lfs = { oid: sha256(bytes), size: bytes.length, pointerSize: 130 };
      return { type: "file", path, size: bytes.length, oid: git, ...(isLarge ? { lfs } : {}) };
    });
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.setHeader("content-type", "application/json").end(JSON.stringify(value));
}

export function sha256(bytes: Buffer | undefined): string {
  return createHash("sha256")
    .update(bytes ?? "")
    .digest("hex");
}
