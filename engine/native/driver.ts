/** The `DeviceDriver` that the engine thread imports: the addon of whichever backend is asked for. */
import type { DeviceDriver } from "../device.ts";
import { loadDeviceDriver } from "./load.ts";

export const driver: DeviceDriver = {
  plan: (model, options) => loadDeviceDriver(options.backend, undefined).plan(model, options),
  open: (model, options, progress) =>
    loadDeviceDriver(options.backend, undefined).open(model, options, progress),
};
