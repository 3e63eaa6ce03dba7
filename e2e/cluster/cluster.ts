/** A real Kubernetes API with its controllers and scheduler, for the tests of one file. */
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach } from "node:test";
import { fileURLToPath } from "node:url";
import { programsFolder } from "./build.ts";
import { ControlPlane, type ControlPlaneProgram } from "./control-plane.ts";
import { Door } from "./door.ts";
import type { FakeKubeletSettings } from "./fake-kubelet.ts";
import { type Identities, kubeconfig, makeIdentities } from "./identities.ts";
import { clusterMissing } from "./requirements.ts";
import {
  controlPlaneAddress,
  SealedNetwork,
  type SealedProcess,
  type SpawnOptions,
} from "./sealed-network.ts";

const kubeletFile = fileURLToPath(new URL("fake-kubelet.ts", import.meta.url));

/** Several times what a loaded machine takes. */
const startDeadlineMs = 120_000;
const requestTimeoutMs = 10_000;

export interface KubectlOptions {
  readonly input?: string;
}

/** What kubectl said, when it ended with an error. */
export class KubectlError extends Error {
  readonly stderr: string;

  constructor(args: readonly string[], code: number | null, stderr: string) {
    super(`kubectl ${args.join(" ")} ended with ${code}: ${stderr}`);
    this.stderr = stderr;
  }
}

export interface ApiResponse {
  readonly status: number;
  /** Parsed where it is JSON. */
  readonly body: unknown;
}

export interface NodeOptions {
  readonly count: number;
  /** Names are this and a number from 0 on. */
  readonly namePrefix?: string;
  /** `nvidia.com/gpu` of each node; none by default. */
  readonly gpusPerNode?: number;
  /** The nodes' label `nvidia.com/gpu.product`, where they have GPUs. */
  readonly gpuProduct?: string;
}

export class Cluster {
  /** The API server as it is reached from this process; see `caFile` and `token`. */
  readonly url: string;
  readonly caFile: string;
  /** Of `system:masters`. */
  readonly token: string;
  /** File for clients in this process. Programs inside use `insideKubeconfig`. */
  readonly kubeconfig: string;
  readonly insideKubeconfig: string;
  /** The API server's URL for programs inside. */
  readonly insideUrl = `https://${controlPlaneAddress}`;
  /** Files of this cluster, logs among them; removed when it ends. */
  readonly folder: string;
  readonly door: Door;
  readonly #network: SealedNetwork;
  readonly #controlPlane: ControlPlane;
  readonly #agent = new Agent({ keepAlive: true });
  #kubelets = 0;
  #owned: AsyncDisposableStack | undefined;

  private constructor(
    folder: string,
    network: SealedNetwork,
    controlPlane: ControlPlane,
    door: Door,
    identities: Identities,
  ) {
    this.folder = folder;
    this.#network = network;
    this.#controlPlane = controlPlane;
    this.door = door;
    this.url = door.url;
    this.caFile = controlPlane.caFile;
    this.token = identities.adminToken;
    this.insideKubeconfig = identities.kubeconfigs.admin;
    this.kubeconfig = join(folder, "outside.kubeconfig");
    writeFileSync(
      this.kubeconfig,
      kubeconfig({ server: this.url, caFile: this.caFile, token: this.token }),
      { mode: 0o600 },
    );
  }

  /**
   * Starts a cluster without nodes: 4 seconds on an idle machine.
   *
   * @throws Error with the end of the log of the program that failed
   */
  static async start(): Promise<Cluster> {
    const reason = clusterMissing();
    if (reason !== undefined) throw new Error(reason);
    await using stack = new AsyncDisposableStack();
    const folder = mkdtempSync(join(tmpdir(), "quire-kubernetes-"));
    stack.defer(() => rmSync(folder, { recursive: true, force: true }));
    const network = stack.use(await SealedNetwork.open());
    const controlPlane = new ControlPlane(network, folder);
    const identities = makeIdentities(folder, controlPlane.caFile);
    controlPlane.startApiServer(identities);
    const door = stack.use(
      await Door.open(network, join(folder, "door"), controlPlane.logFile("relay")),
    );
    const cluster = new Cluster(folder, network, controlPlane, door, identities);
    await controlPlane.until("the API server is ready", startDeadlineMs, () =>
      cluster.#answersOk("/readyz"),
    );
    controlPlane.startControllers(identities);
    await controlPlane.until("the default ServiceAccount is there", startDeadlineMs, () =>
      cluster.#answersOk("/api/v1/namespaces/default/serviceaccounts/default"),
    );
    cluster.#owned = stack.move();
    return cluster;
  }
  /** One of the control plane's programs, to stop, continue or watch. */
  program(name: ControlPlaneProgram): SealedProcess {
    return this.#controlPlane.program(name);
  }

  /** Kills one of them, and returns when it runs again and the API server is ready. */
  async restart(name: ControlPlaneProgram): Promise<void> {
    await this.#controlPlane.restart(name);
    await this.#controlPlane.until("the API server is ready", startDeadlineMs, () =>
      this.#answersOk("/readyz"),
    );
  }

  /** Starts a program inside the sealed network; its output goes to the file `NAME.log`. */
  spawn(
    name: string,
    file: string,
    args: readonly string[],
    options: Omit<SpawnOptions, "logFile"> = {},
  ): SealedProcess {
    return this.#network.spawn(file, args, {
      ...options,
      logFile: this.#controlPlane.logFile(name),
      env: { HOME: this.folder, ...options.env },
    });
  }

  /**
   * Adds nodes that exist only as objects. Their pods behave as the last part of the path in their
   * `QUIRE_MODEL` says, or their annotation `behaviourAnnotation`; see `parseBehaviour`.
   */
  async addNodes(options: NodeOptions): Promise<void> {
    const block = this.#kubelets++;
    const namePrefix = options.namePrefix ?? `node${block}-`;
    const settings: FakeKubeletSettings = {
      server: this.insideUrl,
      token: this.token,
      namePrefix,
      nodeCount: options.count,
      gpusPerNode: options.gpusPerNode ?? 0,
      gpuProduct: options.gpuProduct ?? "NVIDIA-H100-80GB-HBM3",
      addressBlock: block,
    };
    const kubelet = this.spawn(
      `fake-kubelet-${block}`,
      process.execPath,
      [kubeletFile, JSON.stringify(settings)],
      { env: { NODE_EXTRA_CA_CERTS: this.caFile } },
    );
    const last = `/api/v1/nodes/${namePrefix}${options.count - 1}`;
    await this.#controlPlane.until("the fake nodes are there", startDeadlineMs, () => {
      if (!kubelet.running) throw new Error(this.logOf(`fake-kubelet-${block}`));
      return this.#answersOk(last);
    });
  }

  logOf(name: string): string {
    return readFileSync(this.#controlPlane.logFile(name), "utf8");
  }

  /**
   * Runs kubectl inside, as administrator.
   *
   * @returns its standard output
   * @throws KubectlError when it ends with an error
   */
  async kubectl(args: readonly string[], { input = "" }: KubectlOptions = {}): Promise<string> {
    const { child } = this.#network.spawn(join(programsFolder, "kubectl"), args, {
      env: { KUBECONFIG: this.insideKubeconfig, HOME: this.folder },
    });
    if (child.stdout === null || child.stderr === null) throw new Error("kubectl has no output");
    child.stdin?.end(input);
    const [[code], stdout, stderr] = await Promise.all([
      once(child, "close") as Promise<[number | null]>,
      text(child.stdout),
      text(child.stderr),
    ]);
    if (code !== 0) throw new KubectlError(args, code, stderr.trimEnd());
    return stdout;
  }

  /** `kubectl apply` of one or more YAML documents. */
  async apply(yaml: string): Promise<string> {
    return await this.kubectl(["apply", "-f", "-"], { input: yaml });
  }

  /** One request as administrator; any status is an answer. */
  async request(
    method: string,
    path: string,
    body?: unknown,
    contentType = "application/json",
  ): Promise<ApiResponse> {
    const call = httpsRequest(`${this.url}${path}`, {
      method,
      agent: this.#agent,
      ca: readFileSync(this.caFile),
      timeout: requestTimeoutMs,
      headers: {
        authorization: `Bearer ${this.token}`,
        accept: "application/json",
        ...(body === undefined ? {} : { "content-type": contentType }),
      },
    });
    call.on("timeout", () => call.destroy(new Error(`${path}: no answer`)));
    call.end(body === undefined ? undefined : JSON.stringify(body));
    const [response] = await once(call, "response");
    const answer = await text(response);
    const isJson = /^application\/json/.test(response.headers["content-type"] ?? "");
    return { status: response.statusCode, body: isJson ? JSON.parse(answer) : answer };
  }

  /** Prints what there is to know about the cluster after each test of this file that fails. */
  printOnFailure(): void {
    afterEach(async (context) => {
      if ((context as { readonly passed?: boolean }).passed === true) return;
      process.stderr.write(`${await this.report()}\n`);
    });
  }

  /** Objects, events and the ends of all logs. */
  async report(): Promise<string> {
    const queries = [
      ["get", "pods,services,endpointslices", "-A", "-o", "wide"],
      ["get", "quire", "-A", "-o", "yaml"],
      ["get", "events", "-A", "--sort-by=.metadata.creationTimestamp"],
    ];
    const answers = await Promise.all(
      queries.map((args) => this.kubectl(args).catch((error: Error) => error.message)),
    );
    const sections = queries.map((args, i) => `--- kubectl ${args.join(" ")}\n${answers[i]}`);
    return [...sections, ...this.#controlPlane.logTails()].join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#agent.destroy();
    await this.#owned?.disposeAsync();
  }

  async #answersOk(path: string): Promise<boolean> {
    const answer = await this.request("GET", path).catch(() => undefined);
    return answer?.status === 200;
  }
}
