import { statfs } from "node:fs/promises";

import { formatBytes, sourceFailed } from "./resolve-options.ts";

/** @throws EngineError MODEL_SOURCE_FAILED when `byteLength` do not fit in the folder's file system. */
export async function requireSpace(folder: string, byteLength: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize >= byteLength) return;
  throw sourceFailed(
    `${formatBytes(byteLength)} do not fit in ${folder}, which has ${formatBytes(bavail * bsize)} left`,
    "Free disk space, or set a cache folder on a larger disk.",
  );
}
