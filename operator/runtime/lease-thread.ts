/** The thread that renews the lease: what keeps the main thread busy must not cost the leadership. */
import { setTimeout as delay } from "node:timers/promises";
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import type { Connection } from "./credentials.ts";
import { Fence, monotonicMs } from "./fence.ts";
import { Elector, type Leadership, retryMs } from "./leader.ts";
import { Transport } from "./transport.ts";

export interface LeaseThreadData {
  readonly namespace: string;
  readonly leaseName: string;
  readonly identity: string;
  readonly fence: SharedArrayBuffer;
  readonly connection: Connection;
}

/** To the thread: credentials that were rotated, or the end. */
export type LeaseOrder = { readonly connection: Connection } | "release";
/** From the thread: each attempt's outcome, and that the lease is released. */
export type LeaseReport =
  | { readonly leadership: Leadership }
  | { readonly error: string }
  | "released";

// Two attempts fit into the time that a lease is valid without one.
const callDeadlineMs = 4_000;

if (parentPort !== null) await hold(parentPort, workerData as LeaseThreadData);

async function hold(port: MessagePort, data: LeaseThreadData): Promise<void> {
  let { connection } = data;
  const ending = new AbortController();
  port.on("message", (order: LeaseOrder) => {
    if (order === "release") ending.abort();
    else connection = order.connection;
  });
  const transport = new Transport({
    credentials: { current: async () => connection, refused: () => undefined },
    deadlineMs: callDeadlineMs,
  });
  const fence = new Fence(data.fence);
  const elector = new Elector({ ...data, transport, fence, nowMs: monotonicMs });
  const report = (message: LeaseReport) => port.postMessage(message);
  while (!ending.signal.aborted) {
    const leadership = await elector.tick().catch((error: unknown) => {
      report({ error: error instanceof Error ? error.message : String(error) });
    });
    if (leadership !== undefined) report({ leadership });
    if (leadership === "lost") break;
    await delay(retryMs, undefined, { signal: ending.signal }).catch(() => undefined);
  }
  await elector.release().catch((error: unknown) => report({ error: String(error) }));
  report("released");
  transport.close();
  port.close();
}
