/** Entry of the engine thread: opens the device, then runs the loop until it is shut down. */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import type { DeviceDriver, MemoryPlan } from "../device.ts";
import { Scheduler } from "../scheduler/scheduler.ts";
import { EngineLoop } from "./engine-loop.ts";
import { RingReader, RingWriter } from "./rings.ts";
import { type EngineThreadData, type EngineThreadMessage, toErrorData } from "./thread-messages.ts";

if (parentPort === null) throw new Error("engine-thread.ts runs as a worker of engine-client.ts");
await main(parentPort, workerData as EngineThreadData);

async function main(port: MessagePort, data: EngineThreadData): Promise<void> {
  const post = (message: EngineThreadMessage): void => port.postMessage(message);
  try {
    const { driver } = (await import(data.driverModule)) as { driver: DeviceDriver };
    const { model, deviceOptions } = data;
    post({ kind: "planned", plan: driver.plan(model, deviceOptions) });
    const device = driver.open(model, deviceOptions, data.progress);
    const maxModelLen = longestRequest(data, device.plan);
    const { blockSize, maxRows, maxBatchedTokens } = deviceOptions;
    const { blockCount } = device.plan;
    const { targetItlMs, prefixCaching } = data;
    const loop = new EngineLoop({
      device,
      blockSize,
      scheduler: new Scheduler({
        blockCount,
        blockSize,
        maxRows,
        maxBatchedTokens,
        maxModelLen,
        targetItlMs,
        prefixCaching,
      }),
      commands: new RingReader(data.commands),
      events: new RingWriter(data.events),
      stats: data.stats,
      now: Date.now,
    });
    post({ kind: "ready", plan: device.plan, info: device.info, maxModelLen });
    loop.run();
    device.close();
  } catch (error) {
    post({ kind: "failed", error: toErrorData(error) });
  }
}

/** No request may need more blocks than there are. */
function longestRequest(data: EngineThreadData, plan: MemoryPlan): number {
  const { maxModelLen, blockSize } = data.deviceOptions;
  return Math.min(maxModelLen, plan.blockCount * blockSize);
}
