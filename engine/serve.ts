/** `quire serve`: one model behind an OpenAI endpoint, from the first probe to the last answer. */
import { readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";
import type { FastifyInstance } from "fastify";
import { describeSettings, type EngineConfig, readConfig } from "./config.ts";
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
    return await new Server(config, options).run();
  } catch (error) {
    leaveTermination(config?.terminationLog ?? options.env["QUIRE_TERMINATION_LOG"] ?? "", error);
    if (options.shutdown.aborted && error instanceof EngineError && error.code === "ABORTED") {
      return 0;
    }
    return 1;
  }
}

class Server {
  readonly #config: EngineConfig;
  readonly #options: ServeOptions;
  readonly #lifecycle = new Lifecycle();
  readonly #fatal = Promise.withResolvers<never>();

  constructor(config: EngineConfig, options: ServeOptions) {
    this.#config = config;
    this.#options = options;
    // Whoever races against it hears of the failure; nobody need be racing when it comes.
    this.#fatal.promise.catch(() => {});
  }

  async run(): Promise<number> {
    const app = await this.#listen();
    try {
      const loaded = await this.#load(app);
      const shutdown = Promise.withResolvers<void>();
      this.#options.shutdown.addEventListener("abort", () => shutdown.resolve());
      if (this.#options.shutdown.aborted) shutdown.resolve();
      await Promise.race([shutdown.promise, this.#fatal.promise]);
      await this.#drain(app, loaded);
      return 0;
    } catch (error) {
      this.#publishFailure(error);
      throw error;
    } finally {
      await app.close();
    }
  }

  /** Listens before the model is there, so that probes can follow its progress. */
  async #listen(): Promise<FastifyInstance> {
    const config = this.#config;
    const app = await buildApp({
      lifecycle: this.#lifecycle,
      limits: config,
      apiKeys:
        config.apiKeyFile === ""
          ? undefined
          : new ApiKeys(config.apiKeyFile, (error) => {
              if (error === undefined) app.log.info("API keys read again");
              else app.log.error({ err: error }, "API keys cannot be read; the old ones stay");
            }),
      version: this.#options.version,
      logger: { level: config.logLevel },
    });
    await app.listen({ host: config.host, port: config.port }).catch((cause: unknown) => {
      throw new EngineError(
        "CONFIG_INVALID",
        `port ${config.port} of ${config.host} cannot be listened on: ${messageOf(cause)}`,
        { remedy: "Choose another with --port, or end the program that holds it.", cause },
      );
    });
    return app;
  }

  async #load(app: FastifyInstance): Promise<LoadedModel> {
    const config = this.#config;
    const startedMs = performance.now();
    const loaded = await loadModel({
      config,
      cacheDir: cacheDir(config, this.#options.env),
      hubToken: hubToken(config),
      onReport: (report) => {
        const before = this.#lifecycle.report;
        this.#lifecycle.publish(report);
        if (before.phase !== report.phase) app.log.info({ phase: report.phase }, "starting");
      },
      signal: this.#options.shutdown,
    });
    const { running, text, model, revision } = loaded;
    running.onFatal((error) => this.#fatal.reject(error));
    const [first = modelName(config), ...others] = config.servedModelName;
    this.#lifecycle.serve({
      engine: running.engine,
      text,
      modelNames: [first, ...others],
      createdSeconds: Math.floor(Date.now() / 1_000),
    });
    const { architecture } = model.spec;
    app.log.info(
      {
        model: first,
        architecture,
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

  async #drain(app: FastifyInstance, { running }: LoadedModel): Promise<void> {
    this.#lifecycle.beginDrain();
    app.log.info({ inFlight: this.#lifecycle.inFlightCount }, "draining");
    const finished = await Promise.race([
      this.#lifecycle.drained(this.#config.drainTimeoutSeconds * 1_000),
      this.#fatal.promise,
    ]);
    if (!finished) app.log.warn("the drain ran out of time: what was running is aborted");
    await running.close();
    app.log.info("drained");
  }

  #publishFailure(error: unknown): void {
    const { doneBytes, totalBytes } = this.#lifecycle.report;
    this.#lifecycle.publish({ phase: "Failed", doneBytes, totalBytes, message: messageOf(error) });
  }
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

function cacheDir(config: EngineConfig, env: ServeOptions["env"]): string {
  if (config.cacheDir !== "") return config.cacheDir;
  return path.join(env["XDG_CACHE_HOME"] || path.join(homedir(), ".cache"), "quire");
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
