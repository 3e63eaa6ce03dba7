/** Sends a workload: as many at once as allowed (closed loop), or at given times (open loop). */
import { setTimeout as sleep } from "node:timers/promises";
import type { RequestRecord } from "./client.ts";
import type { BenchRequest } from "./workload.ts";

export interface Load {
  readonly requests: readonly BenchRequest[];
  /** Most requests in flight; those with a time of their own do not count. */
  readonly concurrency: number;
  /** Send times in milliseconds from the start, request by request; unset is a closed loop. */
  readonly arrivalsMs: readonly number[] | undefined;
}

export interface Progress {
  readonly done: number;
  readonly failed: number;
  readonly inFlight: number;
}

export async function runLoad(
  load: Load,
  complete: (request: BenchRequest) => Promise<RequestRecord>,
  onProgress: (progress: Progress) => void,
): Promise<RequestRecord[]> {
  const records: RequestRecord[] = [];
  let failed = 0;
  let inFlight = 0;
  const startMs = performance.now();
  const sendOne = async (request: BenchRequest): Promise<void> => {
    inFlight += 1;
    const record = await complete(request);
    inFlight -= 1;
    records.push(record);
    if (record.error !== undefined) failed += 1;
    onProgress({ done: records.length, failed, inFlight });
  };
  const sendAt = async (request: BenchRequest, atMs: number): Promise<void> => {
    await sleep(Math.max(0, startMs + atMs - performance.now()));
    await sendOne(request);
  };

  const timed = load.requests.filter((request) => request.atMs !== undefined);
  const queue = load.requests.filter((request) => request.atMs === undefined);
  const work = timed.map((request) => sendAt(request, request.atMs ?? 0));
  if (load.arrivalsMs !== undefined) {
    const { arrivalsMs } = load;
    work.push(...queue.map((request, index) => sendAt(request, arrivalsMs[index] ?? 0)));
  } else {
    const worker = async (): Promise<void> => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) await sendOne(next);
    };
    for (let i = 0; i < Math.min(load.concurrency, queue.length); i++) work.push(worker());
  }
  await Promise.all(work);
  return records;
}
