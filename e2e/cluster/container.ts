/** What runs in a pod: a process, or something that stands for one. */
import type { Ending } from "./pod-status.ts";

export interface Container {
  readonly startedAtMs: number;
  /** Whether it serves now. */
  ready(nowMs: number): boolean;
  /** How it ended; `undefined` while it runs. */
  ending(nowMs: number): Ending | undefined;
  /** Until one of the two may differ, in milliseconds; infinite where only a change will tell. */
  nextChangeMs(nowMs: number): number;
  /** SIGTERM: it may finish what it is doing. */
  terminate(nowMs: number): void;
  /** SIGKILL, and whatever it holds is free again. Without effect when it has ended. */
  kill(): Promise<void>;
}
