/**
 * A network of its own, without a way out: a loopback device and the addresses of a cluster on it.
 * Whatever runs inside can reach nothing else, and ends when this process ends, however that comes.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { getuid } from "node:process";
import { createInterface } from "node:readline";
import { until } from "../program.ts";

/** Where the API server is reached inside. */
export const controlPlaneAddress = "10.200.0.1";
/** The first Service address, which Kubernetes gives to its own API server. */
export const apiServiceAddress = "10.96.0.1";
export const serviceRange = "10.96.0.0/16";
export const podRange = "10.88.0.0/16";

const startDeadlineMs = 20_000;
const wakeIntervalMs = 20;
/** Nothing of the caller's environment gets in, proxies and credentials least of all. */
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * First process inside. Every pod address is local, so that anything can listen on it. `read`
 * returns when the pipe breaks: then this process ends, and the kernel ends all others.
 */
const firstProcess = `
ip link set lo up
ip address add ${controlPlaneAddress}/32 dev lo
ip address add ${apiServiceAddress}/32 dev lo
ip route add local ${podRange} dev lo
echo up
read -r _`;

export interface SpawnOptions {
  /** File that takes both output streams; without it they are pipes. */
  readonly logFile?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export class SealedNetwork {
  readonly #closed: Promise<unknown>;
  /** Seen from outside. When this process is gone, everything inside is. */
  readonly firstPid: number;
  readonly #enter: readonly string[];
  readonly #programs: SealedProcess[] = [];

  private constructor(closed: Promise<unknown>, firstPid: number, asUser: boolean) {
    this.#closed = closed;
    this.firstPid = firstPid;
    const user = asUser ? ["--user", "--preserve-credentials"] : [];
    this.#enter = ["--target", String(firstPid), ...user, "--net", "--mount", "--pid", "--"];
  }

  /** @throws Error when the kernel or a missing program does not allow it */
  static async open(): Promise<SealedNetwork> {
    const asUser = getuid?.() !== 0;
    const outer = spawn(
      "unshare",
      [
        ...(asUser ? ["--user", "--map-root-user"] : []),
        ...["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"],
        ...["--", "bash", "-ec", firstProcess],
      ],
      { stdio: ["pipe", "pipe", "pipe"], env: { PATH: searchPath } },
    );
    const errors: string[] = [];
    createInterface({ input: outer.stderr }).on("line", (line) => errors.push(line));
    const up = once(createInterface({ input: outer.stdout }), "line");
    const closed = once(outer, "close");
    const line = await Promise.race([up, closed.then(() => undefined)]);
    if (line === undefined) throw new Error(`no sealed network: ${errors.join("; ")}`);
    const firstPid = await onlyChild(outer);
    if (firstPid === undefined) throw new Error("the sealed network ended as it began");
    return new SealedNetwork(closed, firstPid, asUser);
  }

  /** Starts a program inside. */
  spawn(file: string, args: readonly string[], options: SpawnOptions = {}): SealedProcess {
    const log = options.logFile === undefined ? "pipe" : openSync(options.logFile, "a");
    const child = spawn("nsenter", [...this.#enter, file, ...args], {
      stdio: ["pipe", log, log],
      cwd: options.cwd ?? "/",
      env: { PATH: searchPath, ...options.env },
    });
    if (typeof log === "number") closeSync(log);
    const program = new SealedProcess(child);
    this.#programs.push(program);
    return program;
  }

  /** Ends everything inside, and returns when it has. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (existsSync(`/proc/${this.firstPid}`)) process.kill(this.firstPid, "SIGKILL");
    // A stopped nsenter would never take note of its program's end, and the kernel waits for that.
    const wake = setInterval(() => {
      for (const { child } of this.#programs) child.kill("SIGCONT");
    }, wakeIntervalMs);
    // unshare waits for the first process, which is gone only after every other one.
    await this.#closed;
    clearInterval(wake);
  }
}

/** A program inside; its output streams are there unless a file takes them. */
export class SealedProcess {
  readonly child: ChildProcess;
  readonly closed: Promise<unknown>;

  constructor(child: ChildProcess) {
    this.child = child;
    this.closed = once(child, "close");
    // A program may end without reading what it was given.
    child.stdin?.on("error", () => undefined);
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Of the program itself, seen from outside; `undefined` when it has ended. */
  async pid(): Promise<number | undefined> {
    return this.running ? await onlyChild(this.child) : undefined;
  }

  /** Sends a signal to the program itself, not to what carries it inside. */
  async signal(name: NodeJS.Signals): Promise<void> {
    const pid = await this.pid();
    if (pid !== undefined) process.kill(pid, name);
    // nsenter stops along with its program, but does not notice that this one goes on.
    if (name === "SIGCONT") this.child.kill(name);
  }

  /** Kills the program and returns when it is gone. */
  async kill(): Promise<void> {
    await this.signal("SIGKILL");
    await this.closed;
  }
}

/**
 * unshare and nsenter fork once, because a process cannot move to another pid namespace itself.
 *
 * @returns `undefined` when the process has ended
 */
async function onlyChild({ pid }: ChildProcess): Promise<number | undefined> {
  const file = `/proc/${pid}/task/${pid}/children`;
  const found = await until(`process ${pid} has a child`, startDeadlineMs, () => {
    if (!existsSync(file)) return "ended";
    return Number(readFileSync(file, "utf8").split(" ")[0]) || undefined;
  });
  return found === "ended" ? undefined : found;
}
