import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { open } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import {
  type StartupReport,
  type TerminationMessage,
  terminationLogVariable,
} from "../../engine/contract.ts";
import { freePort } from "./free-port.ts";
import { Probe } from "./probe.ts";
import { ReplicaHealth } from "./replica-health.ts";
import { defaultRestartBackoff, type RestartBackoff, restartDelayMs } from "./restart-backoff.ts";
import { readTermination } from "./termination.ts";

/** What `quire.mjs` reads to learn which pipe ends with its parent; absent in a container. */
const parentFdVariable = "QUIRE_PARENT_FD";

export interface ReplicaTiming {
  readonly backoff: RestartBackoff;
  readonly probeIntervalMs: number;
  readonly probeTimeoutMs: number;
  /** An engine that is not live for this long is started again. */
  readonly livenessDeadlineMs: number;
  /** An engine whose load makes no progress for this long is started again. */
  readonly stallDeadlineMs: number;
}

export const defaultReplicaTiming: ReplicaTiming = {
  backoff: defaultRestartBackoff,
  probeIntervalMs: 250,
  probeTimeoutMs: 2_000,
  livenessDeadlineMs: 30_000,
  stallDeadlineMs: 300_000,
};

export interface ReplicaCommand {
  readonly program: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface ReplicaOptions {
  readonly name: string;
  readonly command: ReplicaCommand;
  readonly logFile: string;
  readonly terminationFile: string;
  readonly timing: ReplicaTiming;
  /** Called after every change of what the getters tell. */
  readonly onChange: () => void;
}

/**
 * One replica: an engine process that is started again, after growing pauses, until it is stopped.
 *
 * The engine reads a pipe on its standard input whose other end only this process holds, so that it
 * ends with us whatever happens. It leads a process group of its own: a Ctrl-C at the terminal
 * reaches us alone, and a kill of the group reaches what the engine has started too.
 */
export class ReplicaProcess {
  readonly name: string;
  readonly createdAt = new Date();
  readonly #options: ReplicaOptions;
  readonly #stopping = new AbortController();
  readonly #finished: Promise<void>;
  #child: ChildProcess | undefined;
  #health: ReplicaHealth | undefined;
  #port: number | undefined;
  #failures = 0;
  #restartCount = 0;
  #restartAt: Date | undefined;
  #termination: TerminationMessage | undefined;
  #drainingSince: Date | undefined;

  constructor(options: ReplicaOptions) {
    this.name = options.name;
    this.#options = options;
    this.#finished = this.#run();
  }

  /** Answers requests and was not told to drain. */
  get ready(): boolean {
    return this.#drainingSince === undefined && this.#health?.ready === true;
  }

  /** Loopback port of the process that runs; `undefined` between two of them. */
  get port(): number | undefined {
    return this.#port;
  }

  get logFile(): string {
    return this.#options.logFile;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get startup(): StartupReport | undefined {
    return this.#health?.startup;
  }

  get restartCount(): number {
    return this.#restartCount;
  }

  /** When an engine that ended is started again; `undefined` while one runs. */
  get restartAt(): Date | undefined {
    return this.#restartAt;
  }

  /** Why the engine last ended; stays until an engine has been healthy for long enough. */
  get termination(): TerminationMessage | undefined {
    return this.#termination;
  }

  get drainingSince(): Date | undefined {
    return this.#drainingSince;
  }

  /** Resolves once no process is left and none will be started. */
  get finished(): Promise<void> {
    return this.#finished;
  }

  /**
   * Takes the replica out of the endpoints, lets the engine finish what it is answering, and kills
   * it when it has not ended after `timeoutMs`. Returns at once; of several calls the one whose time
   * is over first counts.
   */
  stop(timeoutMs: number): void {
    this.#drainingSince ??= new Date();
    this.#stopping.abort();
    this.#child?.kill("SIGTERM");
    const timer = setTimeout(() => this.kill(), timeoutMs);
    void this.#finished.finally(() => clearTimeout(timer));
  }

  /** Ends the engine, and all it has started, without asking. */
  kill(): void {
    this.#drainingSince ??= new Date();
    this.#stopping.abort();
    if (this.#child !== undefined) killGroup(this.#child);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const startedAtMs = Date.now();
      this.#termination = await this.#runOnce().catch(describeFailedStart);
      if (signal.aborted) break;
      const { backoff } = this.#options.timing;
      if (Date.now() - startedAtMs >= backoff.resetAfterMs) this.#failures = 0;
      const pauseMs = restartDelayMs(backoff, this.#failures++);
      this.#restartAt = new Date(Date.now() + pauseMs);
      this.#options.onChange();
      await delay(pauseMs, undefined, { signal }).catch(() => undefined);
      this.#restartAt = undefined;
      if (!signal.aborted) this.#restartCount++;
    }
    this.#options.onChange();
  }

  /** One life of the engine. @returns why it ended. */
  async #runOnce(): Promise<TerminationMessage> {
    const { command, logFile, terminationFile, timing } = this.#options;
    const port = await freePort();
    const log = await open(logFile, "a");
    const child = spawn(command.program, command.args, {
      env: {
        ...command.env,
        [terminationLogVariable]: terminationFile,
        [parentFdVariable]: "0",
        QUIRE_HOST: "127.0.0.1",
        QUIRE_PORT: String(port),
      },
      stdio: ["pipe", log.fd, log.fd],
      detached: true,
    });
    const ended = once(child, "exit");
    await log.close();
    this.#child = child;
    this.#port = port;
    // A drain that came between the loop's check and the spawn found no child to tell.
    if (this.#stopping.signal.aborted) child.kill("SIGTERM");

    const health = new ReplicaHealth(new Probe(port, timing.probeTimeoutMs), timing);
    this.#health = health;
    const watched = this.#watch(health, child);
    const [exitCode, signal] = await ended.finally(() => {
      this.#child = undefined;
      this.#port = undefined;
      this.#health = undefined;
    });
    this.#options.onChange();
    // What the engine had started may outlive it.
    killGroup(child);
    await watched;
    const termination = await readTermination(terminationFile, logFile, { exitCode, signal });
    return health.failure === undefined ? termination : describeFailure(health.failure, logFile);
  }

  async #watch(health: ReplicaHealth, child: ChildProcess): Promise<void> {
    while (this.#health === health) {
      const changed = await health.look(Date.now());
      if (this.#health !== health) return;
      if (changed) this.#options.onChange();
      if (health.failure !== undefined) {
        killGroup(child);
        return;
      }
      await delay(this.#options.timing.probeIntervalMs);
    }
  }
}

function describeFailure(failure: string, logFile: string): TerminationMessage {
  return {
    code: "ENGINE_UNHEALTHY",
    message: `it was ended because it ${failure}`,
    remedy: `Read ${logFile}.`,
  };
}

function describeFailedStart(error: unknown): TerminationMessage {
  return {
    code: "START_FAILED",
    message: `the engine could not be started: ${error instanceof Error ? error.message : error}`,
    remedy: "Free what the message says is short; the start is tried again.",
  };
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch (error) {
    // The whole group has ended already.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
