/** etcd, API server, controller manager and scheduler, with settings for short tests. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { until } from "../program.ts";
import { programsFolder } from "./build.ts";
import type { Identities } from "./identities.ts";
import {
  controlPlaneAddress,
  podRange,
  type SealedNetwork,
  type SealedProcess,
  serviceRange,
} from "./sealed-network.ts";

const programNames = [
  "etcd",
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
] as const;
export type ControlPlaneProgram = (typeof programNames)[number];

const peerUrl = "http://127.0.0.1:2380";
const etcdUrl = "http://127.0.0.1:2379";
const logTailLines = 15;

export class ControlPlane {
  /** Serving certificate and, last in it, the authority that signed it; the API server makes both. */
  readonly caFile: string;
  readonly #network: SealedNetwork;
  readonly #folder: string;
  readonly #programs = new Map<ControlPlaneProgram, SealedProcess>();
  readonly #arguments = new Map<ControlPlaneProgram, readonly string[]>();

  /** @param folder is there, empty, and on a disk; logs, keys and etcd's data go into it */
  constructor(network: SealedNetwork, folder: string) {
    this.#network = network;
    this.#folder = folder;
    this.caFile = join(folder, "apiserver.crt");
  }

  /** Starts etcd and the API server, which waits for etcd by itself. */
  startApiServer(identities: Identities): void {
    this.#start("etcd", etcdArguments(join(this.#folder, "etcd")));
    this.#start("kube-apiserver", apiServerArguments(this.#folder, identities));
  }

  /** Starts the controllers and the scheduler; the API server must be ready. */
  startControllers(identities: Identities): void {
    this.#start("kube-controller-manager", controllerArguments(this.#rootFile(), identities));
    const schedulerFile = join(this.#folder, "scheduler.yaml");
    writeFileSync(schedulerFile, schedulerConfig(identities.kubeconfigs.scheduler));
    this.#start("kube-scheduler", ["--config", schedulerFile]);
  }

  program(name: ControlPlaneProgram): SealedProcess {
    const program = this.#programs.get(name);
    if (program === undefined) throw new Error(`${name} has not been started`);
    return program;
  }

  /** Kills the program and starts it anew on what it had written. */
  async restart(name: ControlPlaneProgram): Promise<void> {
    await this.program(name).kill();
    this.#start(name, this.#arguments.get(name) ?? []);
  }

  /** Waits for a condition, and not in vain when a program has ended meanwhile. */
  async until(what: string, deadlineMs: number, check: () => Promise<boolean>): Promise<void> {
    await until(what, deadlineMs, () => {
      for (const [name, { running }] of this.#programs) {
        if (!running) throw new Error(`${name} has ended:\n${this.logTail(name)}`);
      }
      return check();
    });
  }

  logTail(name: string): string {
    const file = this.logFile(name);
    if (!existsSync(file)) return "";
    return readFileSync(file, "utf8").trimEnd().split("\n").slice(-logTailLines).join("\n");
  }

  /** The end of every log, under its name. */
  logTails(): string[] {
    const logs = readdirSync(this.#folder).filter((file) => file.endsWith(".log"));
    return logs.map((file) => `--- ${file}\n${this.logTail(basename(file, ".log"))}`);
  }

  logFile(name: string): string {
    return join(this.#folder, `${name}.log`);
  }

  #start(name: ControlPlaneProgram, args: readonly string[]): void {
    this.#arguments.set(name, args);
    const options = { logFile: this.logFile(name), cwd: this.#folder };
    this.#programs.set(name, this.#network.spawn(join(programsFolder, name), args, options));
  }

  /** Pods are given the authority alone: a bundle that begins with another certificate is refused. */
  #rootFile(): string {
    const end = "-----END CERTIFICATE-----\n";
    const certificates = readFileSync(this.caFile, "utf8").split(end).slice(0, -1);
    const file = join(this.#folder, "ca.crt");
    writeFileSync(file, `${certificates.at(-1)}${end}`);
    return file;
  }
}

function etcdArguments(dataFolder: string): string[] {
  return [
    ...["--data-dir", dataFolder, "--unsafe-no-fsync", "--log-level=warn"],
    ...["--listen-client-urls", etcdUrl, "--advertise-client-urls", etcdUrl],
    ...["--listen-peer-urls", peerUrl, "--initial-advertise-peer-urls", peerUrl],
    ...["--initial-cluster", `default=${peerUrl}`],
  ];
}

function apiServerArguments(folder: string, identities: Identities): string[] {
  return [
    ...["--etcd-servers", etcdUrl, "--cert-dir", folder],
    // On every address of the sealed network, that of Service `kubernetes` among them.
    ...["--bind-address=0.0.0.0", "--secure-port=443", "--advertise-address", controlPlaneAddress],
    ...["--service-cluster-ip-range", serviceRange, "--authorization-mode=Node,RBAC"],
    ...["--token-auth-file", identities.tokenFile],
    ...["--service-account-issuer=https://kubernetes.default.svc"],
    ...["--service-account-signing-key-file", identities.signingKeyFile],
    ...["--service-account-key-file", identities.publicKeyFile],
    "--enable-priority-and-fairness=false",
    // Without kube-proxy nothing else leads from a Service to its pods.
    "--enable-aggregator-routing=true",
    "--profiling=false",
  ];
}

function controllerArguments(rootFile: string, identities: Identities): string[] {
  return [
    ...["--kubeconfig", identities.kubeconfigs["controller-manager"]],
    ...["--service-account-private-key-file", identities.signingKeyFile],
    ...["--root-ca-file", rootFile, "--cluster-cidr", podRange],
    // Without it the controllers lack the rights that the API server knows them by.
    "--use-service-account-credentials=true",
    "--leader-elect=false",
    // The defaults alone would delay the first ServiceAccount by seconds.
    ...["--kube-api-qps=300", "--kube-api-burst=600"],
    ...["--concurrent-deployment-syncs=10", "--concurrent-replicaset-syncs=10"],
  ];
}

function schedulerConfig(kubeconfigFile: string): string {
  return JSON.stringify({
    apiVersion: "kubescheduler.config.k8s.io/v1",
    kind: "KubeSchedulerConfiguration",
    leaderElection: { leaderElect: false },
    clientConnection: { kubeconfig: kubeconfigFile, qps: 500, burst: 1000 },
  });
}
