import { createHash, randomBytes } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { commitPattern } from "./hub-api.ts";

/** A branch or tag of one repository of one hub. */
export interface HubRef {
  readonly hubUrl: URL;
  readonly repo: string;
  readonly revision: string;
}

/** @returns the commit that was downloaded for `ref` last, undefined when there is none. */
export async function recallCommit(ref: HubRef, cacheDir: string): Promise<string | undefined> {
  const text = await readFile(refPath(ref, cacheDir), "utf8").catch(() => "");
  return commitPattern.test(text) ? text : undefined;
}

export async function rememberCommit(ref: HubRef, commit: string, cacheDir: string): Promise<void> {
  if ((await recallCommit(ref, cacheDir)) === commit) return;
  const path = refPath(ref, cacheDir);
  await mkdir(dirname(path), { recursive: true });
  const draft = `${path}.${randomBytes(4).toString("hex")}`;
  await writeFile(draft, commit);
  await rename(draft, path);
}

function refPath({ hubUrl, repo, revision }: HubRef, cacheDir: string): string {
  const identity = JSON.stringify([hubUrl.href, repo, revision]);
  const key = createHash("sha256").update(identity).digest("hex").slice(0, 12);
  return join(cacheDir, "hf", "refs", `${repo.replace("/", "-")}-${key}`);
}
