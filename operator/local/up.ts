import { appendFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { FastifyInstance } from "fastify";
import type { InferenceService } from "../api/inference-service.ts";
import { Autoscaler } from "../autoscaler/autoscaler.ts";
import { buildGateway } from "../gateway/app.ts";
import { InFlight } from "../gateway/in-flight.ts";
import { reconcile } from "../inference-service/reconcile.ts";
import type { ServiceEvent } from "../reconcile/events.ts";
import { WorkQueue } from "../runtime/work-queue.ts";
import { ManifestValidator } from "../validation/validate.ts";
import { freePort } from "./free-port.ts";
import { limitLog } from "./limit-log.ts";
import { LoadSampler } from "./load-sampler.ts";
import { type Manifest, readManifest } from "./manifest.ts";
import { type ManifestWatch, watchManifest } from "./manifest-watch.ts";
import { ProcessCluster } from "./process-cluster.ts";
import {
  defaultReplicaTiming,
  type ReplicaCommand,
  type ReplicaTiming,
} from "./replica-process.ts";
import { makeRunFolder, removeRunState, runFolderOf, writeRunState } from "./run-folder.ts";
import { ServiceStore, serviceKey } from "./service-store.ts";
import { statusRoutes } from "./status-api.ts";
import { UpError } from "./up-error.ts";

const tickMs = 1_000;
/** Of one replica's log; as much again of what came before it is kept. */
const maxLogBytes = 32 * 1024 * 1024;

/** What a person at the shell is told. */
export interface UpListener {
  onListening(address: string): void;
  onEvent(service: InferenceService, event: ServiceEvent): void;
  /** The manifest was saved anew and is what counts from here on. */
  onApplied(): void;
  /** The manifest was saved with mistakes; what was there before goes on. */
  onProblems(problems: readonly string[]): void;
  /** Something failed that is tried again. */
  onError(what: string, error: unknown): void;
}

export interface UpOptions {
  readonly file: string;
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly gpus: readonly string[];
  /** The program that each replica runs. */
  readonly program: ReplicaCommand;
  readonly timing?: ReplicaTiming;
  readonly listener: UpListener;
}

/** A whole Quire in one process: manifest, reconcile, replicas, gateway and autoscaler. */
export class Up {
  readonly address: string;
  readonly store = new ServiceStore();
  readonly cluster: ProcessCluster;
  readonly #options: UpOptions;
  readonly #validator: ManifestValidator;
  readonly #runFolder: string;
  readonly #app: FastifyInstance;
  readonly #queue: WorkQueue;
  readonly #stopping = new AbortController();
  #watch: ManifestWatch | undefined;
  #ticking: Promise<void> | undefined;

  /**
   * Serves what the manifest asks for, and goes on to follow it.
   *
   * @throws UpError for a manifest that is missing or has mistakes, and for a port that is taken
   */
  static async start(options: UpOptions): Promise<Up> {
    const validator = await ManifestValidator.load();
    const text = await readFile(options.file, "utf8").catch((cause: unknown) => {
      throw new UpError(`${messageOf(cause)}: name a manifest with -f`, { cause });
    });
    const manifest = readManifest(options.file, text, validator, () => undefined);
    if (manifest.problems.length > 0) throw new UpError(manifest.problems.join("\n"));
    const port = options.port === 0 ? await freePort() : options.port;
    const up = new Up({ ...options, port }, validator);
    await up.#run(manifest, text);
    return up;
  }

  private constructor(options: UpOptions, validator: ManifestValidator) {
    const { host, port, env, gpus, program, timing = defaultReplicaTiming, listener } = options;
    this.#options = options;
    this.#validator = validator;
    this.address = `http://${host === "0.0.0.0" ? "127.0.0.1" : host}:${port}`;
    this.#runFolder = runFolderOf(env, port);
    const inFlight = new InFlight();
    this.cluster = new ProcessCluster({
      store: this.store,
      runFolder: this.#runFolder,
      program,
      gpus,
      timing,
      url: this.address,
      inFlightOf: (name) => inFlight.of(name),
      onChange: (key) => this.#queue.add(key),
      onEvent: (service, event) => listener.onEvent(service, event),
    });
    this.#queue = new WorkQueue({
      handle: (key) => reconcile(key, this.cluster, new Date()),
      onError: (key, error) => listener.onError(`reconcile of ${key}`, error),
    });
    const log = join(this.#runFolder, "gateway.log");
    this.#app = buildGateway({
      replicas: this.cluster,
      inFlight,
      logger: { level: "warn", stream: { write: (line: string) => appendFileSync(log, line) } },
    });
    this.#app.register(statusRoutes, { store: this.store, cluster: this.cluster });
  }

  /** Lets every answer come to its end, then ends every replica. Takes no new request meanwhile. */
  async drain(): Promise<void> {
    const drained = this.cluster.drainAll();
    this.#stopping.abort();
    await this.#watch?.close();
    await this.#queue.stop();
    await this.#ticking;
    await drained;
    await this.#app.close();
    await removeRunState(this.#runFolder);
  }

  /** Ends every replica without asking; `drain`, if it is under way, comes to its end then. */
  kill(): void {
    this.cluster.killAll();
    this.#app.server.closeAllConnections();
  }

  async #run({ resources }: Manifest, text: string): Promise<void> {
    const { host, port, file, env, listener } = this.#options;
    await this.#listen(host, port);
    // Whoever has the port owns the folder; not before.
    await makeRunFolder(env, port);
    await writeRunState(this.#runFolder, {
      pid: process.pid,
      address: this.address,
      manifest: file,
    });
    listener.onListening(this.address);
    for (const key of this.store.apply(resources, new Date())) this.#queue.add(key);
    this.#watch = await watchManifest(
      file,
      text,
      async (saved) => this.#apply(saved),
      (error) => listener.onError(file, error),
    );
    const sampler = new LoadSampler(this.store, this.cluster, new Autoscaler());
    this.#ticking = this.#tickUntilStopped(sampler);
  }

  async #listen(host: string, port: number): Promise<void> {
    await this.#app.listen({ host, port }).catch((cause: unknown) => {
      const { code } = cause as NodeJS.ErrnoException;
      const why =
        code === "EADDRINUSE"
          ? `port ${port} of ${host} is taken: end the program that has it, or choose another with --port`
          : `port ${port} of ${host} cannot be listened on (${messageOf(cause)}): choose another with --port or --host`;
      throw new UpError(why, { cause });
    });
  }

  #apply(text: string): void {
    const { file, listener } = this.#options;
    const { resources, problems } = readManifest(file, text, this.#validator, (kind, name) =>
      [...this.store.services(), ...this.store.policies()].find(
        (resource) => resource.kind === kind && resource.metadata.name === name,
      ),
    );
    if (problems.length > 0) {
      listener.onProblems(problems);
    } else {
      for (const key of this.store.apply(resources, new Date())) this.#queue.add(key);
      listener.onApplied();
    }
  }

  async #tickUntilStopped(sampler: LoadSampler): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await delay(tickMs, undefined, { signal }).catch(() => undefined);
      await sampler.tick().catch((error: unknown) => {
        this.#options.listener.onError("autoscaler", error);
      });
      for (const { replica } of this.cluster.pods()) {
        if (replica !== undefined) await limitLog(replica.logFile, maxLogBytes);
      }
      for (const service of this.store.services()) this.#queue.add(serviceKey(service));
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
