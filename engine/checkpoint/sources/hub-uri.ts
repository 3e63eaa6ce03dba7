import { sourceFailed } from "./resolve-options.ts";

export interface HubSource {
  /** `owner/name`. */
  readonly repo: string;
  /** Branch, tag or commit. */
  readonly revision: string;
  /** One GGUF file of the repository, when the URI names one. */
  readonly path: string | undefined;
}

const defaultRevision = "main";

/**
 * @param uri `hf://owner/name[@revision][/path/file.gguf]`; slashes in a revision as `%2F`.
 * @param revision overrides the one in `uri`.
 * @throws EngineError MODEL_SOURCE_FAILED
 */
export function parseHubUri(uri: string, revision: string | undefined): HubSource {
  const parts = /^hf:\/\/([\w.-]+)\/([\w.-]+)(?:@([^/@]+))?(?:\/(.+))?$/i.exec(uri);
  const [, owner, name, inUri, path] = parts ?? [];
  const chosen = revision ?? decode(inUri) ?? defaultRevision;
  if (!isPlain(owner) || !isPlain(name) || (path !== undefined && !isGgufPath(path))) {
    throw sourceFailed(
      `${uri} does not name a model of a hub`,
      "Write hf://owner/name, hf://owner/name@revision or hf://owner/name/file.gguf.",
    );
  }
  if (!/^[\w./-]+$/.test(chosen) || chosen.includes("..")) {
    throw sourceFailed(
      `${JSON.stringify(chosen.slice(0, 100))} is not a revision`,
      "Give a branch, a tag or a commit.",
    );
  }
  return { repo: `${owner}/${name}`, revision: chosen, path };
}

function decode(text: string | undefined): string | undefined {
  try {
    return text === undefined ? undefined : decodeURIComponent(text);
  } catch {
    return text; // refused by the pattern for revisions
  }
}

function isPlain(part: string | undefined): part is string {
  return part !== undefined && !/^\.+$/.test(part);
}

function isGgufPath(path: string): boolean {
  return path.toLowerCase().endsWith(".gguf") && path.split("/").every(isFileName);
}

/** A name that stays in its folder and is not hidden. */
export function isFileName(name: string): boolean {
  return /^[^./\\\0][^/\\\0]*$/.test(name);
}
