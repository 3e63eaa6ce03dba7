import { enginePort, terminationLogVariable } from "../contract.ts";
import { EngineError } from "../errors.ts";
import { flagName, readFlags } from "./flags.ts";
import { bytes, choice, integer, list, type Setting, secret, text, toggle } from "./setting.ts";

const gibibyte = 1024 ** 3;

/**
 * Every setting of the engine, once. The type, the variables, the flags, `--help` and REFERENCE.md
 * come from this table. Flags and their words are those of `vllm serve` where it has the setting.
 */
export const settings = {
  model: text({
    env: "QUIRE_MODEL",
    default: "",
    help: "Model: a folder, a GGUF file, or a URI (hf://, pvc://, https://, pypi:). Required; also the first argument.",
  }),
  revision: text({
    env: "QUIRE_REVISION",
    default: "",
    help: "Branch, tag or commit of a hub model; empty takes the hub's default branch.",
  }),
  checksum: text({
    env: "QUIRE_CHECKSUM",
    default: "",
    help: "sha256:<hex> that the model file must have; empty does not check.",
  }),
  servedModelName: list({
    env: "QUIRE_SERVED_MODEL_NAME",
    help: "Names that requests may use, the first is answered; empty takes the model's.",
  }),
  host: text({
    env: "QUIRE_HOST",
    default: "0.0.0.0",
    help: "Address that the endpoint listens on.",
  }),
  port: integer({
    env: "QUIRE_PORT",
    default: enginePort,
    min: 0,
    max: 65_535,
    help: "Port of the OpenAI endpoint; 0 takes a free one.",
  }),
  apiKeyFile: text({
    env: "QUIRE_API_KEY_FILE",
    default: "",
    help: "File with one API key a line, # for comments; read again when it changes. Empty: no key is asked for.",
  }),
  hubToken: secret({
    env: "HF_TOKEN",
    help: "Token for gated hub models.",
  }),
  hubTokenFile: text({
    env: "QUIRE_HUB_TOKEN_FILE",
    default: "",
    help: "File that holds the hub token; wins over HF_TOKEN.",
  }),
  cacheDir: text({
    env: "QUIRE_CACHE_DIR",
    default: "",
    help: "Folder for fetched models; empty takes $XDG_CACHE_HOME/quire or ~/.cache/quire.",
  }),
  backend: choice({
    env: "QUIRE_BACKEND",
    default: "auto",
    values: ["auto", "cpu", "cuda"],
    help: "What computes; auto takes cuda where a GPU is found.",
  }),
  dtype: choice({
    env: "QUIRE_DTYPE",
    default: "auto",
    values: ["auto", "float32", "bfloat16"],
    help: "Type of activations and KV cache; auto takes the device's fastest.",
  }),
  threads: integer({
    env: "QUIRE_THREADS",
    default: 0,
    min: 0,
    max: 1024,
    help: "Compute threads of the CPU backend; 0 takes the cores this process may use.",
  }),
  cpuIsa: choice({
    env: "QUIRE_CPU_ISA",
    default: "auto",
    values: ["auto", "ref", "avx2", "avx512", "bf16", "vnni", "amx"],
    help: "Instruction tier of the CPU backend; auto takes the best that the processor has.",
  }),
  tensorParallelSize: integer({
    env: "QUIRE_TENSOR_PARALLEL_SIZE",
    default: 1,
    min: 1,
    max: 16,
    help: "Ranks that the model is sharded over; divides its KV heads.",
  }),
  memoryBytes: bytes({
    env: "QUIRE_MEMORY_BYTES",
    default: 0,
    min: 0,
    max: 16_384 * gibibyte,
    help: "Memory for weights, workspace and KV cache together; 0 asks the machine.",
  }),
  blockSize: choice({
    env: "QUIRE_BLOCK_SIZE",
    default: 64,
    values: [16, 32, 64],
    unit: "tokens",
    help: "Tokens per KV-cache block.",
  }),
  blockCount: integer({
    env: "QUIRE_BLOCK_COUNT",
    default: 0,
    min: 0,
    max: 100_000_000,
    unit: "blocks",
    help: "KV-cache blocks; 0 takes what memory allows.",
  }),
  maxModelLen: integer({
    env: "QUIRE_MAX_MODEL_LEN",
    default: 0,
    min: 0,
    max: 10_000_000,
    unit: "tokens",
    help: "Longest request, prompt and output together; 0 takes the model's own limit.",
  }),
  maxNumSeqs: integer({
    env: "QUIRE_MAX_NUM_SEQS",
    default: 256,
    min: 1,
    max: 4096,
    unit: "requests",
    help: "Requests that may be running at once.",
  }),
  maxNumBatchedTokens: integer({
    env: "QUIRE_MAX_NUM_BATCHED_TOKENS",
    default: 2048,
    min: 16,
    max: 131_072,
    unit: "tokens",
    help: "Tokens that one step may compute.",
  }),
  targetItlMs: integer({
    env: "QUIRE_TARGET_ITL_MS",
    default: 50,
    min: 0,
    max: 60_000,
    unit: "ms",
    help: "Limit for a step's predicted time while requests are decoding; 0 sets none.",
  }),
  maxWaitingRequests: integer({
    env: "QUIRE_MAX_WAITING_REQUESTS",
    default: 512,
    min: 0,
    max: 1_000_000,
    unit: "requests",
    help: "Requests that may wait to run; one more is answered 429.",
  }),
  enablePrefixCaching: toggle({
    env: "QUIRE_ENABLE_PREFIX_CACHING",
    default: true,
    help: "Keep the blocks of finished requests for requests that begin alike.",
  }),
  maxChoices: integer({
    env: "QUIRE_MAX_CHOICES",
    default: 128,
    min: 1,
    max: 4096,
    unit: "choices",
    help: "Choices of one HTTP request: its prompts times n.",
  }),
  maxBodyBytes: bytes({
    env: "QUIRE_MAX_BODY_BYTES",
    default: 4 * 1024 ** 2,
    min: 1024,
    max: gibibyte,
    help: "Largest request body; a larger one is answered 413.",
  }),
  maxStreamBufferBytes: bytes({
    env: "QUIRE_MAX_STREAM_BUFFER_BYTES",
    default: 1024 ** 2,
    min: 4096,
    max: gibibyte,
    help: "Bytes that one stream may hold for a slow reader before its request is aborted.",
  }),
  stallTimeoutSeconds: integer({
    env: "QUIRE_STALL_TIMEOUT_SECONDS",
    default: 60,
    min: 1,
    max: 3600,
    unit: "seconds",
    help: "Age of the engine's heartbeat, with steps in flight, from which /health/live fails.",
  }),
  drainTimeoutSeconds: integer({
    env: "QUIRE_DRAIN_TIMEOUT_SECONDS",
    default: 300,
    min: 0,
    max: 86_400,
    unit: "seconds",
    help: "Time that running requests get to finish after SIGTERM; what is left is aborted.",
  }),
  terminationLog: text({
    env: terminationLogVariable,
    default: "",
    help: "File that takes the error that ended the engine, as JSON; empty writes none.",
  }),
  logLevel: choice({
    env: "QUIRE_LOG_LEVEL",
    default: "info",
    values: ["fatal", "error", "warn", "info", "debug", "trace", "silent"],
    help: "Least severe log line that is written.",
  }),
} as const;

export type SettingKey = keyof typeof settings;

type ValueOf<Row> = Row extends Setting<infer Value> ? Value : never;

export type EngineConfig = { readonly [Key in SettingKey]: ValueOf<(typeof settings)[Key]> };

/**
 * Reads the settings from flags, then variables, then defaults.
 *
 * @param argv what follows `quire serve`; one bare argument is the model
 * @throws EngineError CONFIG_INVALID naming every mistake at once, not only the first
 */
export function readConfig(
  env: Readonly<Record<string, string | undefined>>,
  argv: readonly string[],
): EngineConfig {
  const problems: string[] = [];
  const flags = readFlags(argv, settings, problems);
  const entries = Object.entries(settings).map(([key, setting]) => {
    const flag = flags.get(key);
    const raw = flag ?? env[setting.env];
    const origin = flag === undefined ? setting.env : `--${flagName(key)}`;
    try {
      return [key, raw === undefined || raw === "" ? setting.default : setting.parse(raw)];
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      problems.push(`${origin}=${raw} ${reason}`);
      return [key, setting.default];
    }
  });
  const config = Object.fromEntries(entries) as EngineConfig;
  if (config.model === "") problems.push("QUIRE_MODEL (or --model) is not set");
  if (problems.length > 0) {
    throw new EngineError("CONFIG_INVALID", problems.join("; "), {
      remedy: "Correct what is named above and start again; --help lists every setting.",
    });
  }
  return config;
}

/** The text of `quire serve --help`. */
export function describeSettings(): string {
  const rows = Object.entries(settings).map(([key, setting]) => {
    const flag = setting.flag === "none" ? "" : `--${flagName(key)}`;
    const shown = String(setting.default);
    const facts = [setting.allowed, setting.unit, shown === "" ? "" : `default ${shown}`];
    const details = facts.filter((fact) => fact !== "").join(", ");
    return `  ${flag.padEnd(26)} ${setting.env}\n      ${setting.help} (${details})`;
  });
  return `Usage: quire serve [model] [flags]\n\n${rows.join("\n")}\n`;
}
