/**
 * Finds the addon of a backend and makes it a `DeviceDriver`. The only importer of native code;
 * what the addon throws becomes an `EngineError` here.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import type {
  Device,
  DeviceDriver,
  DeviceInfo,
  DeviceOptions,
  LoadProgress,
  MemoryPlan,
  RowSampling,
  StepBatch,
  StepResult,
} from "../device.ts";
import { maxTopLogprobs } from "../device.ts";
import { EngineError, type EngineErrorCode } from "../errors.ts";
import type { Model } from "../models/model-spec.ts";

/** Where `npm run build:native` leaves the addons. */
const builtDirectory = path.resolve(import.meta.dirname, "../../build/native");

/** What an addon exports; see `native/addon/device.h`. */
interface Addon {
  plan(model: Model, options: DeviceOptions): MemoryPlan;
  readonly Device: new (
    model: Model,
    options: DeviceOptions,
    progress: LoadProgress,
  ) => NativeDevice;
}

interface NativeDevice {
  plan(): MemoryPlan;
  description(): string;
  openRow(row: number, sampling: RowSampling, tokenIds: Int32Array, promptLength: number): void;
  setBlocks(row: number, firstIndex: number, blocks: Int32Array): void;
  submit(
    chunkCount: number,
    tokenCount: number,
    rows: Int32Array,
    starts: Int32Array,
    counts: Int32Array,
    flags: Uint8Array,
    tokenIds: Int32Array,
  ): void;
  /** `summary` takes the number of samples and the step's milliseconds. */
  wait(
    tokenIds: Int32Array,
    logprobs: Float32Array,
    topTokenIds: Int32Array,
    topLogprobs: Float32Array,
    summary: Float32Array,
  ): void;
  close(): void;
}

/**
 * @param directory where the addons are; `undefined` is where the build puts them
 * @throws EngineError DEVICE_UNAVAILABLE when the backend was not built or does not load
 */
export function loadDeviceDriver(
  backend: DeviceOptions["backend"],
  directory: string | undefined,
): DeviceDriver {
  const addon = loadAddon(backend, path.join(directory ?? builtDirectory, `quire_${backend}.node`));
  return {
    plan: (model, options) => translated(() => addon.plan(model, options)),
    open: (model, options, progress) =>
      new LoadedDevice(
        backend,
        translated(() => new addon.Device(model, options, progress)),
        options.maxRows,
      ),
  };
}

function loadAddon(backend: DeviceOptions["backend"], file: string): Addon {
  if (!existsSync(file)) {
    throw new EngineError("DEVICE_UNAVAILABLE", `the ${backend} backend is not built: no ${file}`, {
      remedy:
        backend === "cuda"
          ? "Build it where nvcc is installed with `npm run build:native`, or choose the cpu backend."
          : "Run `npm run build:native`.",
    });
  }
  try {
    return createRequire(import.meta.url)(file) as Addon;
  } catch (error) {
    throw notLoadable(file, error);
  }
}

function notLoadable(file: string, cause: unknown): EngineError {
  return new EngineError("DEVICE_UNAVAILABLE", `${file} does not load: ${messageOf(cause)}`, {
    remedy: "Rebuild it on this machine with `npm run build:native`.",
    cause,
  });
}

class LoadedDevice implements Device {
  readonly info: DeviceInfo;
  readonly plan: MemoryPlan;
  readonly #native: NativeDevice;
  readonly #tokenIds: Int32Array;
  readonly #logprobs: Float32Array;
  readonly #topTokenIds: Int32Array;
  readonly #topLogprobs: Float32Array;
  readonly #summary = new Float32Array(2);

  constructor(backend: DeviceOptions["backend"], native: NativeDevice, maxRows: number) {
    this.#native = native;
    this.info = { backend, description: native.description() };
    this.plan = native.plan();
    this.#tokenIds = new Int32Array(maxRows);
    this.#logprobs = new Float32Array(maxRows);
    this.#topTokenIds = new Int32Array(maxRows * maxTopLogprobs);
    this.#topLogprobs = new Float32Array(maxRows * maxTopLogprobs);
  }

  openRow(row: number, sampling: RowSampling, tokenIds: Int32Array, promptLength: number): void {
    translated(() => this.#native.openRow(row, sampling, tokenIds, promptLength));
  }

  setBlocks(row: number, firstIndex: number, blocks: Int32Array): void {
    translated(() => this.#native.setBlocks(row, firstIndex, blocks));
  }

  submit(batch: StepBatch): void {
    translated(() =>
      this.#native.submit(
        batch.chunkCount,
        batch.tokenCount,
        batch.rows,
        batch.starts,
        batch.counts,
        batch.flags,
        batch.tokenIds,
      ),
    );
  }

  wait(): StepResult {
    translated(() =>
      this.#native.wait(
        this.#tokenIds,
        this.#logprobs,
        this.#topTokenIds,
        this.#topLogprobs,
        this.#summary,
      ),
    );
    return {
      sampledCount: this.#summary[0] ?? 0,
      tokenIds: this.#tokenIds,
      logprobs: this.#logprobs,
      topTokenIds: this.#topTokenIds,
      topLogprobs: this.#topLogprobs,
      stepMs: this.#summary[1] ?? 0,
    };
  }

  close(): void {
    this.#native.close();
  }
}

/** The addon's codes (`native/addon/errors.h`) as ours, and what to do about them. */
const errorsByNativeCode: Record<string, { code: EngineErrorCode; remedy: string }> = {
  INVALID_ARGUMENT: {
    code: "CONFIG_INVALID",
    remedy: "Change the setting or the model that the message names.",
  },
  OUT_OF_MEMORY: {
    code: "DEVICE_OUT_OF_MEMORY",
    remedy:
      "Give the engine more memory, or lower the longest request, the rows, the batched tokens or the KV blocks.",
  },
  UNAVAILABLE: {
    code: "DEVICE_UNAVAILABLE",
    remedy: "Choose instructions or a backend that this machine has.",
  },
  IO: {
    code: "CHECKPOINT_INVALID",
    remedy: "Check that the model's files are whole and readable, or fetch them again.",
  },
  DEVICE_FAILED: {
    code: "DEVICE_FAILED",
    remedy: "Restart the engine; report the message if it comes back.",
  },
};

function translated<Result>(call: () => Result): Result {
  try {
    return call();
  } catch (error) {
    throw translate(error);
  }
}

function translate(cause: unknown): unknown {
  const known = errorsByNativeCode[nativeCodeOf(cause)];
  return known === undefined
    ? cause
    : new EngineError(known.code, messageOf(cause), { remedy: known.remedy, cause });
}

function nativeCodeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
