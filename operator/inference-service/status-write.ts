import type { InferenceServiceStatus } from "../api/inference-service.ts";

type Status = InferenceServiceStatus;

// Numbers and progress change with every look, and each write costs etcd and every watcher.
const minorIntervalMs = 10_000;

/**
 * When a status should be written: 0 for at once, `undefined` for not at all.
 *
 * What people and programs act on is written as it changes; numbers and texts that follow them at most
 * every ten seconds.
 *
 * @param sinceWriteMs time since the last write; absent where this process has not written yet
 */
export function statusWriteDelayMs(
  before: Status | undefined,
  after: Status,
  sinceWriteMs: number | undefined,
): number | undefined {
  if (before === undefined || text(major(before)) !== text(major(after))) return 0;
  if (text(withoutTimes(before)) === text(withoutTimes(after))) return undefined;
  return Math.max(0, minorIntervalMs - (sinceWriteMs ?? minorIntervalMs));
}

/** The part that does not follow the load. */
function major({ load: _, display, conditions, pods, scaling, ...rest }: Status) {
  return {
    ...rest,
    display: { model: display?.model, replicas: display?.replicas },
    conditions: conditions?.map(({ message: _m, lastTransitionTime: _t, ...said }) => said),
    pods: pods?.map(({ message: _m, ...pod }) => pod),
    scaling: scaling === undefined ? undefined : { ...scaling, reason: "", history: undefined },
  };
}

function withoutTimes({ load, conditions, ...rest }: Status) {
  return {
    ...rest,
    load: load === undefined ? undefined : { ...load, observedAt: "" },
    conditions: conditions?.map(({ lastTransitionTime: _, ...said }) => said),
  };
}

/** JSON whose fields are in order: what the server returns has another. */
function text(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
