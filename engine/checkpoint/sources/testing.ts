import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { chmodSync, existsSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { crc32, deflateRawSync } from "node:zlib";

import { EngineError, type EngineErrorCode } from "../../errors.ts";
import { resolveModel } from "../sources.ts";
import { temporaryFolder } from "../testing.ts";
import type { DownloadLimits, ResolvedModel, ResolveOptions } from "./resolve-options.ts";

/** What the tests of the sources share: a server on loopback, wheels, and processes to kill. */

export interface LoopbackServer extends AsyncDisposable {
  readonly url: string;
  /** `METHOD path range` of each request, in order. */
  readonly requests: string[];
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export async function serve(handler: Handler): Promise<LoopbackServer> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const { method, url, headers } = request;
    requests.push(`${method} ${url} ${headers.range ?? ""}`.trim());
    handler(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Answers as a good web server does: ranges, `If-Range` and a strong ETag. */
export function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  etag = '"one"',
): void {
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  const condition = request.headers["if-range"];
  const isPart = start > 0 && (condition === undefined || condition === etag);
  response.setHeader("etag", etag);
  if (!isPart) {
    response.setHeader("content-length", bytes.length).writeHead(200).end(bytes);
    return;
  }
  response.setHeader("content-range", `bytes ${start}-${bytes.length - 1}/${bytes.length}`);
  response.setHeader("content-length", bytes.length - start);
  response.writeHead(206).end(bytes.subarray(start));
}

export interface ZipEntry {
  readonly name: string;
  readonly content: Buffer | string;
  readonly isDeflated?: boolean;
  /** Unix mode, in the upper half of the external attributes. */
  readonly mode?: number;
  readonly flags?: number;
  /** What the archive claims, where it lies. */
  readonly claimedSize?: number;
  readonly claimedCrc32?: number;
}

/** A zip archive of these entries (PKWARE's APPNOTE 6.3.10, 4.3). */
export function aZip(entries: readonly ZipEntry[]): Buffer {
  const locals: Buffer[] = [];
  const centrals: Buffer[] = [];
  let offset = 0;
  for (const entry of entries) {
    const content = Buffer.from(entry.content);
    const name = Buffer.from(entry.name);
    const data = entry.isDeflated ? deflateRawSync(content) : content;
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(entry.flags ?? 0x800, 2);
    common.writeUInt16LE(entry.isDeflated ? 8 : 0, 4);
    common.writeUInt32LE(entry.claimedCrc32 ?? crc32(content), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(entry.claimedSize ?? content.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from("PK\x03\x04"), common, name, data]);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(((entry.mode ?? 0o100644) << 16) >>> 0, 6);
    rest.writeUInt32LE(offset, 10);
    const madeBy = Buffer.from([20, 3]);
    centrals.push(Buffer.concat([Buffer.from("PK\x01\x02"), madeBy, common, rest, name]));
    locals.push(local);
    offset += local.length;
  }
  const directory = Buffer.concat(centrals);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(entries.length, 4);
  end.writeUInt16LE(entries.length, 6);
  end.writeUInt32LE(directory.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...locals, directory, Buffer.from("PK\x05\x06"), end]);
}

/** The files that make an archive a wheel that pip accepts. */
export function wheelEntries(name: string, version: string, metadata = ""): ZipEntry[] {
  const info = `${name}-${version}.dist-info`;
  return [
    {
      name: `${info}/METADATA`,
      content: `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n${metadata}\nText.\n`,
    },
    {
      name: `${info}/WHEEL`,
      content: "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    },
    { name: `${info}/RECORD`, content: "" },
  ];
}

/** An interpreter that runs `script`, a line of sh, in place of python3; `$@` is its arguments. */
export function aPython(folder: string, script: string): string {
  const file = join(folder, "python");
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
  return file;
}

/** The real python3, whose pip asks the index at `indexUrl` and uses no cache of its own. */
export function aPythonWithIndex(folder: string, indexUrl: string): string {
  const settings = `PIP_CONFIG_FILE=/dev/null PIP_INDEX_URL=${indexUrl} PIP_NO_CACHE_DIR=1`;
  return aPython(folder, `exec env -u PIP_EXTRA_INDEX_URL ${settings} python3 "$@"`);
}

type PlainOptions = Omit<ResolveOptions, "onProgress" | "signal">;

/**
 * `resolveModel` in a process of its own, which prints each progress and then the path as lines of
 * JSON.
 */
export function resolveInProcess(uri: string, options: PlainOptions): ChildProcess {
  const module = new URL("../sources.ts", import.meta.url).href;
  const script = `
    import { resolveModel } from ${JSON.stringify(module)};
    const print = (value) => process.stdout.write(JSON.stringify(value) + "\\n");
    const options = { ...${JSON.stringify(options)}, onProgress: print };
    print(await resolveModel(${JSON.stringify(uri)}, options));
  `;
  return spawn(process.execPath, ["--input-type=module", "--eval", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
}

/** Waits until `isTrue`, looking every 10 ms for at most 20 s. */
export async function until(isTrue: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!isTrue()) {
    if (performance.now() > deadline) throw new Error(`waited 20 s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** What the servers of the tests have to offer: 300,000 bytes without a pattern. */
export const content = randomBytes(300_000);
export const contentSha256 = createHash("sha256").update(content).digest("hex");

export interface World extends AsyncDisposable {
  readonly url: string;
  readonly requests: readonly string[];
  readonly cacheDir: string;
  /** Bytes that are on the disk of the download in progress. */
  readonly partBytes: () => number;
  readonly options: (more?: Partial<ResolveOptions>) => ResolveOptions;
  /** Resolves `/m.gguf` of the server. */
  readonly resolve: (more?: Partial<ResolveOptions>) => Promise<ResolvedModel>;
}

export type WorldHandler = (
  request: IncomingMessage,
  response: ServerResponse,
  world: Pick<World, "partBytes">,
) => void;

/** A server whose n-th request meets the n-th handler, the last one for all others; a cache. */
export async function aWorld(...handlers: WorldHandler[]): Promise<World> {
  const folder = temporaryFolder();
  const partBytes = () => sizeOfPart(join(folder.path, "https"));
  let count = 0;
  const server = await serve((request, response) => {
    const handler = handlers[Math.min(count++, handlers.length - 1)];
    handler?.(request, response, { partBytes });
  });
  const quick: Partial<DownloadLimits> = { backoffMs: 5, minProgressBytes: 1 };
  const options = (more: Partial<ResolveOptions> = {}): ResolveOptions => ({
    cacheDir: folder.path,
    ...more,
    limits: { ...quick, ...more.limits },
  });
  return {
    url: server.url,
    requests: server.requests,
    cacheDir: folder.path,
    partBytes,
    options,
    resolve: (more) => resolveModel(`${server.url}/m.gguf`, options(more)),
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
    },
  };
}

function sizeOfPart(folder: string): number {
  const part = existsSync(folder) ? readdirSync(folder, { recursive: true }).map(String) : [];
  const path = part.find((name) => name.endsWith(".part"));
  return path === undefined ? 0 : statSync(join(folder, path)).size;
}

export const sendContent: WorldHandler = (request, response) =>
  sendFile(request, response, content);

/**
 * Promises the rest of `bytes` that the request asks for, sends `count` of them and calls `then`
 * when they are on the client's disk. Sends all when no more are left.
 */
export function sendSome(
  bytes: Buffer,
  count: number,
  etag: string,
  then: (response: ServerResponse) => void,
): WorldHandler {
  return async (request, response, { partBytes }) => {
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    response.setHeader("etag", etag).setHeader("content-length", bytes.length - start);
    if (start > 0) {
      response.statusCode = 206;
      response.setHeader("content-range", `bytes ${start}-${bytes.length - 1}/${bytes.length}`);
    }
    if (start + count >= bytes.length) {
      response.end(bytes.subarray(start));
      return;
    }
    response.write(bytes.subarray(start, start + count));
    await until(() => partBytes() === start + count, `${count} bytes after ${start}`);
    then(response);
  };
}

/** Breaks the connection after `count` bytes. */
export function cutAfter(count: number, etag = '"one"', bytes = content): WorldHandler {
  return sendSome(bytes, count, etag, (response) => response.destroy());
}

/** Matches the error that `resolveModel` ends with. */
export function failure(
  code: EngineErrorCode,
  message = /./,
  remedy = /./,
): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof EngineError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.match(error.remedy, remedy);
    return true;
  };
}

/** The shortest of five runs, which on a busy machine is the one nearest to the code's own time. */
export async function shortestMs(run: () => Promise<unknown>): Promise<number> {
  let shortest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    await run();
    shortest = Math.min(shortest, performance.now() - start);
  }
  return shortest;
}
