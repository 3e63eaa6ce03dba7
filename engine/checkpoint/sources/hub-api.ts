import { setTimeout as sleep } from "node:timers/promises";

import type { ListFileEntry } from "@huggingface/hub";

import type { EngineError } from "../../errors.ts";
import { bodyOf, get, type Remedies, withRetries, withStallDeadline } from "./http-request.ts";
import { type DownloadLimits, sourceFailed } from "./resolve-options.ts";

/** How to talk to the hub about one repository. */
export interface HubClient {
  readonly hubUrl: URL;
  /** `owner/name`. */
  readonly repo: string;
  /** `authorization`, when there is a token. */
  readonly headers: Readonly<Record<string, string>>;
  readonly limits: DownloadLimits;
  readonly signal: AbortSignal;
}

export interface HubFile {
  readonly path: string;
  readonly size: number;
  /** A large file's SHA-256; a small one has only the SHA-1 that git names its content by. */
  readonly digest: { readonly algorithm: "sha256" | "gitBlob"; readonly hex: string };
}

export interface HubRevision {
  /** 40 hexadecimal digits. */
  readonly commit: string;
  /** As the model's card states it. */
  readonly license: string | undefined;
}

export const commitPattern = /^[0-9a-f]{40}$/;

const maxAnswerBytes = 32 * 2 ** 20;
const maxFiles = 10_000;

export const hubRemedies: Remedies = {
  access:
    "Check the name; a gated model needs its terms accepted on the hub and a token (HF_TOKEN) of that account.",
  missing: "Check the model's name and revision.",
};

/**
 * The commit that a branch, tag or commit of the repository stands for.
 *
 * @throws EngineError MODEL_SOURCE_FAILED, TransientError when the hub cannot be reached.
 */
export async function lookUpRevision(client: HubClient, revision: string): Promise<HubRevision> {
  const { modelInfo } = await import("@huggingface/hub");
  const info = await modelInfo({
    name: client.repo,
    revision,
    additionalFields: ["sha", "tags"],
    hubUrl: baseUrl(client),
    fetch: fetchOf(client),
  });
  const commit: unknown = info.sha;
  if (typeof commit !== "string" || !commitPattern.test(commit)) {
    throw misunderstood(client, `names no commit for ${revision}`);
  }
  const tags: unknown = info.tags;
  const license = Array.isArray(tags) ? tags.find(isLicense)?.slice("license:".length) : undefined;
  return { commit, license };
}

function isLicense(tag: unknown): tag is string {
  return typeof tag === "string" && tag.startsWith("license:");
}

/**
 * The files in one folder of the repository at `commit`.
 *
 * @param folder relative, empty for the root.
 * @throws EngineError MODEL_SOURCE_FAILED, TransientError when the hub cannot be reached.
 */
export async function listFolder(
  client: HubClient,
  commit: string,
  folder: string,
): Promise<readonly HubFile[]> {
  const { listFiles } = await import("@huggingface/hub");
  const files: HubFile[] = [];
  const entries = listFiles({
    repo: { type: "model", name: client.repo },
    revision: commit,
    ...(folder === "" ? {} : { path: folder }),
    hubUrl: baseUrl(client),
    fetch: fetchOf(client),
  });
  for await (const entry of entries) {
    if (entry.type !== "file") continue;
    if (files.length === maxFiles) throw misunderstood(client, `lists more than ${maxFiles} files`);
    files.push(hubFileOf(entry, client));
  }
  return files;
}

/** The answer is JSON that the library passes on as it came. */
function hubFileOf(entry: ListFileEntry, client: HubClient): HubFile {
  const { path, lfs } = entry;
  const size = lfs?.size ?? entry.size;
  const digest = lfs?.oid ?? entry.oid;
  const isWhole = typeof path === "string" && typeof digest === "string";
  if (!isWhole || !Number.isSafeInteger(size) || size < 0) {
    throw misunderstood(client, "lists a file without path, size or digest");
  }
  return {
    path,
    size,
    digest: { algorithm: lfs === undefined ? "gitBlob" : "sha256", hex: digest },
  };
}

export function fileUrl(client: HubClient, commit: string, path: string): URL {
  const encoded = path.split("/").map(encodeURIComponent).join("/");
  return new URL(`${baseUrl(client)}/${client.repo}/resolve/${commit}/${encoded}`);
}

function baseUrl(client: HubClient): string {
  return client.hubUrl.href.replace(/\/+$/, "");
}

/**
 * What the hub's library is to fetch with: our retries, limits and errors, and the token for the hub
 * alone, also when a page of a listing names another host for the next one.
 */
function fetchOf(client: HubClient): typeof fetch {
  return async (input) => {
    const url = new URL(input instanceof Request ? input.url : input);
    if (url.origin !== client.hubUrl.origin) {
      throw misunderstood(client, `sends on to ${url.origin}`);
    }
    return await withRetries(
      client.limits,
      (milliseconds) => sleep(milliseconds, undefined, { signal: client.signal }),
      () => getWhole(url, client),
    );
  };
}

/** One answer with its body read, within the limit on its size. */
async function getWhole(url: URL, client: HubClient): Promise<Response> {
  const headers = { ...client.headers, accept: "application/json" };
  const { stallMs } = client.limits;
  return await withStallDeadline(url, stallMs, client.signal, async (signal, onSign) => {
    const response = await get(url, headers, signal, hubRemedies);
    const pieces: Uint8Array[] = [];
    let byteLength = 0;
    for await (const piece of bodyOf(response, url, signal, onSign)) {
      byteLength += piece.length;
      if (byteLength > maxAnswerBytes) {
        throw misunderstood(client, `answers with more than ${maxAnswerBytes} bytes`);
      }
      pieces.push(piece);
    }
    return new Response(Buffer.concat(pieces), { headers: response.headers });
  });
}

function misunderstood(client: HubClient, fact: string): EngineError {
  return sourceFailed(
    `the hub at ${client.hubUrl.origin} ${fact}, asked about ${client.repo}`,
    "Check the hub's URL, and that it serves the API of the Hugging Face hub.",
  );
}
