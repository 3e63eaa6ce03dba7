import { readdir } from "node:fs/promises";

const driverFolder = "/proc/driver/nvidia/gpus";

/**
 * Names by which CUDA may be told to use each GPU of this machine, in CUDA's own order.
 *
 * @param visible `CUDA_VISIBLE_DEVICES` of this process, which narrows what its children may use
 */
export async function findGpus(visible: string | undefined): Promise<string[]> {
  if (visible !== undefined) return visible.split(",").filter((name) => name.trim() !== "");
  // Without the driver there is no such folder, and no GPU.
  const cards = await readdir(driverFolder).catch(() => []);
  return cards.map((_, index) => String(index));
}

/**
 * Hands the machine's GPUs to pods, whole ones only.
 *
 * Invariant: a GPU is either free or with exactly one pod.
 */
export class GpuPool {
  readonly #all: readonly string[];
  readonly #free: string[];

  constructor(gpus: readonly string[]) {
    this.#all = gpus;
    this.#free = [...gpus];
  }

  /** @returns all of `count` GPUs, or why there is no room, in a scheduler's words. */
  take(count: number): readonly string[] | string {
    if (count > this.#free.length) {
      return `${count} GPU asked for, ${this.#free.length} of ${this.#all.length} on this machine free`;
    }
    return this.#free.splice(0, count);
  }

  give(gpus: readonly string[]): void {
    this.#free.push(...gpus);
  }
}
