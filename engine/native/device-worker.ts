/** A thread of `device.test.ts`: opens the model that it is given and posts what it generates. */
import { parentPort, workerData } from "node:worker_threads";
import type { Model } from "../models/model-spec.ts";
import { openDevice, runAlone } from "./device-testing.ts";

const prompt = [3, 14, 15, 9, 26, 5, 35, 8, 9, 7, 9, 32, 38, 4, 6, 26, 43, 38, 32, 7, 9, 5, 0];
const device = openDevice(workerData as Model);
parentPort?.postMessage(runAlone(device, { row: 0, promptTokenIds: prompt, count: 8 }));
device.close();
