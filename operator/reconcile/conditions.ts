import type { InferenceServiceStatus } from "../api/inference-service.ts";

export type Condition = NonNullable<InferenceServiceStatus["conditions"]>[number];

export const conditionTypes = [
  "Accepted",
  "Ready",
  "Available",
  "Progressing",
  "ScalingActive",
  "Degraded",
] as const;
export type ConditionType = (typeof conditionTypes)[number];

/** The closed set of reasons of conditions and events; clients may compare with them. */
export const reasons = [
  // Accepted
  "Valid",
  "InvalidSpec",
  "Forbidden",
  // Ready and Available
  "Serving",
  "MinimumReplicas",
  "FewerReplicas",
  "Pending",
  "Starting",
  "Resolving",
  "Downloading",
  "Loading",
  "Warming",
  "Draining",
  "Suspended",
  "ScaledToZero",
  // a pod's trouble
  "InsufficientGPU",
  "Unschedulable",
  "InsufficientMemory",
  "DeviceUnavailable",
  "DownloadFailed",
  "UnsupportedArchitecture",
  "ChecksumMismatch",
  "InvalidCheckpoint",
  "DownloadStalled",
  "LoadStalled",
  "ImagePullFailed",
  "ContainerNotCreated",
  "QuotaExceeded",
  "NodeLost",
  "EngineCrashLoop",
  "EngineUnhealthy",
  // Progressing
  "Settled",
  "RollingOut",
  "Scaling",
  "RolloutStalled",
  "ReconcileFailed",
  // ScalingActive
  "Fresh",
  "NotMeasured",
  "MetricsStale",
  "CapacityLimited",
  "AtMaxReplicas",
  "PolicyLimited",
  "PolicyNotFound",
  "ReplicasGiven",
  // Degraded
  "None",
] as const;
export type Reason = (typeof reasons)[number];

/** What a condition says now; when it began to is arithmetic. */
export interface Statement {
  readonly type: ConditionType;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: Reason;
  readonly message: string;
}

// The schema's limits.
const maxMessageLength = 4_096;

/**
 * The conditions after these statements (KEP-1623): `lastTransitionTime` moves only when the status
 * changes, every statement is about the generation that was reconciled, and a type that is not
 * stated keeps what it said.
 */
export function updateConditions(
  previous: readonly Condition[],
  statements: readonly Statement[],
  generation: number,
  now: Date,
): Condition[] {
  const stated = statements.map((statement): Condition => {
    const before = previous.find(({ type }) => type === statement.type);
    const changed = before?.status !== statement.status;
    return {
      ...statement,
      message: shortened(statement.message),
      observedGeneration: generation,
      lastTransitionTime: changed ? now.toISOString() : before.lastTransitionTime,
    };
  });
  const kept = previous.filter(({ type }) => !statements.some((said) => said.type === type));
  const order = (type: string) => conditionTypes.indexOf(type as ConditionType);
  return [...stated, ...kept].sort((a, b) => order(a.type) - order(b.type));
}

function shortened(message: string): string {
  return message.length <= maxMessageLength
    ? message
    : `${message.slice(0, maxMessageLength - 1)}…`;
}
