import { copyFile, stat, truncate } from "node:fs/promises";

/**
 * Moves what a log holds to `FILE.1`, over what was there, once it has more than `maxBytes`.
 *
 * Its writer keeps its descriptor, which appends: it goes on at the new end. Lines that it writes
 * between the copy and the cut are lost.
 */
export async function limitLog(file: string, maxBytes: number): Promise<void> {
  // A replica that has not been started yet has no log.
  const size = await stat(file).then(
    (stats) => stats.size,
    () => 0,
  );
  if (size <= maxBytes) return;
  await copyFile(file, `${file}.1`);
  await truncate(file);
}
