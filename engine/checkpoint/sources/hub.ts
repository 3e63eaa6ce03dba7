import { basename, join } from "node:path";

import { type CacheEntry, cachedEntry, type EntryName, findCached } from "./cache.ts";
import { requireSafeUrl, TransientError } from "./http-request.ts";
import { commitPattern, type HubClient, lookUpRevision } from "./hub-api.ts";
import { downloadSnapshot } from "./hub-download.ts";
import { type HubRef, recallCommit, rememberCommit } from "./hub-refs.ts";
import { type HubSource, parseHubUri } from "./hub-uri.ts";
import { limitsOf, type ResolvedModel, type ResolveOptions } from "./resolve-options.ts";

const publicHub = "https://huggingface.co";
/** With a usable copy at hand, an unreachable hub is not worth a longer wait. */
const recheckLimits = { attempts: 1, stallMs: 5_000 };

/**
 * A model of a Hugging Face hub: `hf://owner/name[@revision][/file.gguf]`. Its branch or tag is
 * looked up each time and only a new commit is downloaded; a commit needs no network once cached.
 * When the hub cannot be reached, the commit downloaded last is used and the user told so.
 *
 * @throws EngineError MODEL_SOURCE_FAILED, CHECKSUM_MISMATCH
 */
export async function resolveHub(
  uri: string,
  options: ResolveOptions,
  checksum: string | undefined,
): Promise<ResolvedModel> {
  const source = parseHubUri(uri, options.revision);
  const hubUrl = requireSafeUrl(new URL(options.hubUrl ?? publicHub));
  if (commitPattern.test(source.revision)) {
    const entry = await snapshot(source, source.revision, hubUrl, options, checksum);
    return { path: pathIn(entry), revision: source.revision };
  }
  const ref: HubRef = { hubUrl, repo: source.repo, revision: source.revision };
  const commit = await currentCommit(source, ref, options, checksum);
  const entry = await snapshot(source, commit, hubUrl, options, checksum);
  await rememberCommit(ref, commit, options.cacheDir);
  return { path: pathIn(entry), revision: commit };
}

/** A model of one GGUF file is that file, every other one its folder. */
function pathIn({ folder, files }: CacheEntry): string {
  const [only, ...others] = files;
  if (only === undefined || others.length > 0) return folder;
  return only.name.toLowerCase().endsWith(".gguf") ? join(folder, only.name) : folder;
}

async function snapshot(
  source: HubSource,
  commit: string,
  hubUrl: URL,
  options: ResolveOptions,
  checksum: string | undefined,
): Promise<CacheEntry> {
  const name = entryName(source, commit, hubUrl);
  return await cachedEntry(name, options, checksum, (staging) =>
    downloadSnapshot(source, commit, clientFor(source, hubUrl, options, staging.signal), staging),
  );
}

function entryName(source: HubSource, commit: string, hubUrl: URL): EntryName {
  const file = source.path === undefined ? "" : `-${basename(source.path)}`;
  return {
    scheme: "hf",
    label: `${source.repo}-${commit.slice(0, 8)}${file}`,
    identity: JSON.stringify([hubUrl.href, source.repo, commit, source.path ?? null]),
  };
}

function clientFor(
  source: HubSource,
  hubUrl: URL,
  options: ResolveOptions,
  signal: AbortSignal,
): HubClient {
  const { token } = options;
  return {
    hubUrl,
    repo: source.repo,
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    limits: limitsOf(options),
    signal,
  };
}

async function currentCommit(
  source: HubSource,
  ref: HubRef,
  options: ResolveOptions,
  checksum: string | undefined,
): Promise<string> {
  const signal = options.signal ?? new AbortController().signal;
  const client = clientFor(source, ref.hubUrl, options, signal);
  const known = await recallCommit(ref, options.cacheDir);
  const kept =
    known === undefined
      ? undefined
      : await findCached(entryName(source, known, ref.hubUrl), options, checksum);
  if (known === undefined || kept === undefined) {
    return (await lookUpRevision(client, source.revision)).commit;
  }
  try {
    const limits = { ...client.limits, ...recheckLimits };
    return (await lookUpRevision({ ...client, limits }, source.revision)).commit;
  } catch (error) {
    if (!(error instanceof TransientError)) throw error;
    options.onProgress?.({
      phase: "Resolving",
      doneBytes: 0,
      totalBytes: 0,
      message: `${error.message}; using the copy of ${source.repo} at ${known.slice(0, 8)}`,
    });
    return known;
  }
}
