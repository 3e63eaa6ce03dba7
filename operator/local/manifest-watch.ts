import { readFile, stat } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { watch } from "chokidar";

/** A file that was written less long ago may be written on: half a manifest would delete services. */
const quietMs = 60;
/** A file that never rests is read all the same. */
const maxWaitMs = 1_000;

export interface ManifestWatch {
  close(): Promise<void>;
}

/**
 * Calls `onText` with what the file holds, after each change and once it is at rest. Several changes
 * in quick succession may be told as one: the last is always told. One call at a time.
 *
 * @param knownText what the file held when it was last read: what differs is told at once
 */
export async function watchManifest(
  file: string,
  knownText: string,
  onText: (text: string) => Promise<void>,
  onError: (error: unknown) => void,
): Promise<ManifestWatch> {
  let changed = false;
  let reading: Promise<void> | undefined;
  let last = knownText;

  async function readChanges(): Promise<void> {
    while (changed) {
      changed = false;
      await readOnce().catch(onError);
    }
    reading = undefined;
  }

  async function readOnce(): Promise<void> {
    const text = await readAtRest(file);
    if (text === last) return;
    await onText(text);
    last = text;
  }

  function onChange(): void {
    changed = true;
    reading ??= readChanges();
  }

  // Editors replace a file by another one of its name.
  const watcher = watch(file, { atomic: true, ignoreInitial: true });
  watcher.on("all", onChange);
  watcher.on("error", onError);
  await new Promise<void>((resolve) => watcher.once("ready", () => resolve()));
  // What was saved since the file was first read is told of nowhere else.
  onChange();
  return {
    async close() {
      await watcher.close();
      await reading;
    },
  };
}

async function readAtRest(file: string): Promise<string> {
  const endMs = Date.now() + maxWaitMs;
  for (;;) {
    const before = await stat(file);
    const text = await readFile(file, "utf8");
    const restedMs = Date.now() - before.mtimeMs;
    const unchanged = (await stat(file)).mtimeMs === before.mtimeMs;
    if ((restedMs >= quietMs && unchanged) || Date.now() >= endMs) return text;
    await delay(Math.max(1, quietMs - restedMs));
  }
}
