/** How a pod on a fake node behaves, and the words that say so. */

/** Times are in milliseconds. */
export interface Behaviour {
  /** From binding to the container's start. */
  readonly startMs: number;
  /** From the container's start until it serves; infinite where loading never ends. */
  readonly loadMs: number;
  /** How and how long after its start the container ends by itself; absent where it stays. */
  readonly end?: { readonly cause: EndCause; readonly afterMs: number };
  /** Ends once only, instead of after each restart. */
  readonly once: boolean;
  /** The image cannot be pulled. */
  readonly imageMissing: boolean;
  /** Connections are taken and never answered. */
  readonly silent: boolean;
  /** From SIGTERM to the container's end. */
  readonly drainMs: number;
  /** What the engine's metrics claim. */
  readonly load: EngineLoad;
}

export type EndCause = "crash" | "oom";

export interface EngineLoad {
  /** Fraction of the KV cache in use. */
  readonly kv: number;
  readonly running: number;
  readonly waiting: number;
}

/** Changes the behaviour of one pod while it runs; it wins over the model's words. */
export const behaviourAnnotation = "fake-kubelet/behaviour";

const usualMs = { start: 50, load: 50, drain: 50 };

/**
 * Reads words joined by commas: `start=MS`, `load=MS`, `stall`, `crash[=MS]`, `oom[=MS]`, `once`,
 * `image`, `silent`, `drain=MS`, `kv=FRACTION`, `running=N`, `waiting=N`.
 *
 * @throws Error for a word that is none of them
 */
export function parseBehaviour(words: string): Behaviour {
  const given = parseWords(words);
  const number = (name: string, otherwise: number): number => given.get(name) ?? otherwise;
  const end = (["crash", "oom"] as const).find((cause) => given.has(cause));
  return {
    startMs: number("start", usualMs.start),
    loadMs: given.has("stall") ? Number.POSITIVE_INFINITY : number("load", usualMs.load),
    ...(end === undefined ? {} : { end: { cause: end, afterMs: number(end, 0) } }),
    once: given.has("once"),
    imageMissing: given.has("image"),
    silent: given.has("silent"),
    drainMs: number("drain", usualMs.drain),
    load: { kv: number("kv", 0), running: number("running", 0), waiting: number("waiting", 0) },
  };
}

function parseWords(words: string): Map<string, number | undefined> {
  const given = new Map<string, number | undefined>();
  for (const word of words.split(",").filter((part) => part !== "")) {
    const [name = "", value] = word.split("=");
    const number = value === undefined ? undefined : Number(value);
    if (!known.has(name) || Number.isNaN(number)) throw new Error(`"${word}" is no behaviour`);
    given.set(name, number);
  }
  return given;
}

const known = new Set([
  ...["start", "load", "stall", "crash", "oom", "once", "image", "silent", "drain"],
  ...["kv", "running", "waiting"],
]);

/** The words of a model's location: what its last part says, where that is behaviour at all. */
export function wordsOfModel(location: string): string {
  const last = location.split("/").at(-1) ?? "";
  try {
    parseBehaviour(last);
    return last;
  } catch {
    return "";
  }
}
