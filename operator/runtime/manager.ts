import type { Election } from "./election.ts";

export interface ManagerOptions {
  /** Fills the caches and keeps them current until the signal. */
  readonly watch: (signal: AbortSignal) => Promise<void>;
  /** Resolves once the caches are filled. */
  readonly synced: () => Promise<void>;
  readonly election: Pick<Election, "start" | "leading" | "lost" | "release">;
  /** Starts what the leader alone does. @returns how to stop it: finishes what is under way. */
  readonly lead: () => () => Promise<void>;
  readonly onPhase: (phase: "syncing" | "waiting" | "leading" | "stopping") => void;
  readonly syncTimeoutMs?: number;
  readonly stopTimeoutMs?: number;
}

// A cluster that takes longer has a fault that a restart makes visible.
const defaultSyncTimeoutMs = 120_000;
// Kubernetes kills 30 s after SIGTERM; the lease is to be released before.
const defaultStopTimeoutMs = 25_000;

/**
 * Runs an operator from start to stop: caches, lease, work; and backwards.
 *
 * Followers fill their caches too, so that the next leader begins at once.
 *
 * @returns `lost` where the lease went to another process: then this one may do nothing more
 * @throws Error when the caches cannot be filled in time
 */
export async function runManager(
  options: ManagerOptions,
  shutdown: AbortSignal,
): Promise<"stopped" | "lost"> {
  const { watch, synced, election, lead, onPhase } = options;
  const stopWatching = new AbortController();
  const stopped = aborted(shutdown);
  onPhase("syncing");
  const watching = watch(stopWatching.signal);
  try {
    await Promise.race([inTime(synced(), options.syncTimeoutMs ?? defaultSyncTimeoutMs), stopped]);
    if (shutdown.aborted) return "stopped";
    onPhase("waiting");
    await election.start();
    const lost = election.lost.then(() => "lost" as const);
    const begun = await Promise.race([election.leading, stopped, lost]);
    if (begun === "lost" || shutdown.aborted) return begun ?? "stopped";
    onPhase("leading");
    const stop = lead();
    const ended = await Promise.race([stopped, lost]);
    onPhase("stopping");
    await Promise.race([stop(), after(options.stopTimeoutMs ?? defaultStopTimeoutMs)]);
    return ended ?? "stopped";
  } finally {
    await election.release();
    stopWatching.abort();
    await watching;
  }
}

async function inTime(work: Promise<void>, timeoutMs: number): Promise<void> {
  const timer = Promise.withResolvers<never>();
  const timeout = setTimeout(() => {
    const text = `the caches were not filled in ${timeoutMs} ms: see the errors above, and the operator's RBAC rules`;
    timer.reject(new Error(text));
  }, timeoutMs);
  try {
    await Promise.race([work, timer.promise]);
  } finally {
    clearTimeout(timeout);
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true }),
  );
}

function after(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
