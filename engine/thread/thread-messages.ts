import type { DeviceInfo, DeviceOptions, LoadProgress, MemoryPlan } from "../device.ts";
import { EngineError, type EngineErrorCode } from "../errors.ts";
import type { Model } from "../models/model-spec.ts";
import type { SharedStats } from "./shared-stats.ts";

/** All that the engine thread is given when it starts. */
export interface EngineThreadData {
  readonly model: Model;
  readonly deviceOptions: DeviceOptions;
  readonly targetItlMs: number;
  readonly prefixCaching: boolean;
  /** URL or path of a module that exports `driver`. */
  readonly driverModule: string;
  readonly progress: LoadProgress;
  readonly commands: SharedArrayBuffer;
  readonly events: SharedArrayBuffer;
  readonly stats: SharedStats;
}

/** What the engine thread posts, each at most once; everything else goes through the rings. */
export type EngineThreadMessage =
  | { readonly kind: "planned"; readonly plan: MemoryPlan }
  | ReadyMessage
  | { readonly kind: "failed"; readonly error: EngineErrorData };

export interface ReadyMessage {
  readonly kind: "ready";
  readonly plan: MemoryPlan;
  readonly info: DeviceInfo;
  /** What the device's blocks leave of the longest request asked for, in tokens. */
  readonly maxModelLen: number;
}

/** An `EngineError` as plain data: structured clone drops the fields of error subclasses. */
export interface EngineErrorData {
  readonly code: EngineErrorCode;
  readonly message: string;
  readonly remedy: string;
  /** Stack or text of the original error. */
  readonly cause: string | undefined;
}

/** Any other error than an `EngineError` becomes DEVICE_FAILED: the thread cannot go on. */
export function toErrorData(error: unknown): EngineErrorData {
  if (error instanceof EngineError) {
    const { code, message, remedy } = error;
    return { code, message, remedy, cause: describe(error.cause) };
  }
  return {
    code: "DEVICE_FAILED",
    message: `the engine thread failed: ${error instanceof Error ? error.message : String(error)}`,
    remedy: "Report this with the log; the process ends so that it can be started afresh.",
    cause: describe(error),
  };
}

export function fromErrorData(data: EngineErrorData): EngineError {
  const { code, message, remedy, cause } = data;
  return new EngineError(code, message, cause === undefined ? { remedy } : { remedy, cause });
}

function describe(cause: unknown): string | undefined {
  if (cause === undefined) return undefined;
  return cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
}
