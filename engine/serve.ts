/** `quire serve`: one model behind an OpenAI endpoint, from the first probe to the last answer. */
import { readFileSync, writeFileSync } from "node:fs";
import type { FastifyInstance } from "fastify";
import { defaultCacheDir } from "./checkpoint/sources/cache.ts";
import { describeSettings, type EngineConfig, readConfig } from "./config/config.ts";
import type { TerminationMessage } from "./contract.ts";
import { EngineError } from "./errors.ts";
import { type LoadedModel, loadModel } from "./load-model.ts";
import { buildApp } from "./server/app.ts";
import { ApiKeys } from "./server/auth.ts";
import { Lifecycle } from "./server/lifecycle.ts";

export interface ServeOptions {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  /** Aborted once by whoever wants the server to drain and end. */
  readonly shutdown: AbortSignal;
}

/**
 * Serves until `shutdown`, then finishes what is running.
 *
 * @returns the exit code: 0 after a shutdown, 1 after a failure, which is also left in the
 *   termination log
 */
export async function serve(options: ServeOptions): Promise<number> {
  if (options.argv.includes("--help") || options.argv.includes("-h")) {
    process.stdout.write(describeSettings());
    return 0;
  }
  let config: EngineConfig | undefined;
  try {
    config = readConfig(options.env, options.argv);
    return await run(config, options);
  } catch (error) {
    leaveTermination(config?.terminationLog ?? options.env["QUIRE_TERMINATION_LOG"] ?? "", error);
    if (options.shutdown.aborted && error instanceof EngineError && error.code === "ABORTED") {
      return 0;
    }
    return 1;
  }
}

async function run(config: EngineConfig, options: ServeOptions): Promise<number> {
  // Listens before the model is there, so that probes can follow its progress.
  const server = await listen(config, options.version);
  const fatal = Promise.withResolvers<never>();
  // Whoever races against it hears of the failure; nobody need be racing when it comes.
  fatal.promise.catch(() => {});
  try {
    const { running } = await load(config, options, server);
    running.onFatal((error) => fatal.reject(error));
    await Promise.race([aborted(options.shutdown), fatal.promise]);
    await Promise.race([drain(server, config.drainTimeoutSeconds), fatal.promise]);
    await running.close();
    return 0;
  } catch (error) {
    const { doneBytes, totalBytes } = server.lifecycle.report;
    const message = messageOf(error);
    server.lifecycle.publish({ phase: "Failed", doneBytes, totalBytes, message });
    await server.app.close();
    throw error;
  }
}

interface Listening {
  readonly app: FastifyInstance;
  readonly lifecycle: Lifecycle;
}

async function listen(config: EngineConfig, version: string): Promise<Listening> {
  const lifecycle = new Lifecycle();
  const apiKeys = config.apiKeyFile === "" ? undefined : new ApiKeys(config.apiKeyFile, logReload);
  const logger = { level: config.logLevel };
  const app = await buildApp({ lifecycle, limits: config, apiKeys, version, logger });
  await app.listen({ host: config.host, port: config.port }).catch((cause: unknown) => {
    throw new EngineError(
      "CONFIG_INVALID",
      `port ${config.port} of ${config.host} cannot be listened on: ${messageOf(cause)}`,
      { remedy: "Choose another with --port, or end the program that holds it.", cause },
    );
  });
  return { app, lifecycle };

  function logReload(error: unknown): void {
    if (error === undefined) app.log.info("API keys read again");
    else app.log.error({ err: error }, "API keys not read, the ones before stay");
  }
}

/** Lets what is in flight finish for a while, aborts the rest, and closes. */
async function drain({ app, lifecycle }: Listening, timeoutSeconds: number): Promise<void> {
  app.log.info({ inFlight: lifecycle.inFlightCount, timeoutSeconds }, "draining");
  lifecycle.beginDrain();
  if (!(await lifecycle.drained(timeoutSeconds * 1_000))) {
    app.log.warn({ inFlight: lifecycle.inFlightCount }, "drain timed out, aborting");
  }
  await app.close();
}

async function load(
  config: EngineConfig,
  options: ServeOptions,
  { app, lifecycle }: Listening,
): Promise<LoadedModel> {
  const startedMs = performance.now();
  const loaded = await loadModel({
    config,
    cacheDir: config.cacheDir || defaultCacheDir(options.env["XDG_CACHE_HOME"]),
    hubToken: hubToken(config),
    onReport: (report) => {
      if (lifecycle.report.phase !== report.phase) app.log.info({ report }, "starting");
      lifecycle.publish(report);
    },
    signal: options.shutdown,
  });
  const { running, text, model, revision } = loaded;
  const [first = modelName(config), ...others] = config.servedModelName;
  lifecycle.serve({
    engine: running.engine,
    text,
    modelNames: [first, ...others],
    createdSeconds: Math.floor(Date.now() / 1_000),
  });
  app.log.info(
    {
      model: first,
      architecture: model.spec.architecture,
      revision,
      device: running.info.description,
      maxModelLen: running.engine.maxModelLen,
      plan: running.plan,
      durationMs: Math.round(performance.now() - startedMs),
    },
    "serving",
  );
  return loaded;
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** The last words, where a kubelet or `quire up` looks for them, and on stderr for people. */
function leaveTermination(file: string, error: unknown): void {
  const message: TerminationMessage =
    error instanceof EngineError
      ? { code: error.code, message: error.message, remedy: error.remedy }
      : { code: "INTERNAL", message: messageOf(error), remedy: "Report this with the log." };
  process.stderr.write(`${message.code}: ${message.message}. ${message.remedy}\n`);
  if (!(error instanceof EngineError)) process.stderr.write(`${(error as Error).stack}\n`);
  if (file !== "") writeFileSync(file, JSON.stringify(message));
}

function hubToken(config: EngineConfig): string | undefined {
  if (config.hubTokenFile !== "") return readFileSync(config.hubTokenFile, "utf8").trim();
  return config.hubToken === "" ? undefined : config.hubToken;
}

/** Without a served name, the model is called what it was asked for by. */
function modelName({ model }: EngineConfig): string {
  return model.replace(/^(hf|file):\/\//, "").replace(/\/+$/, "");
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
