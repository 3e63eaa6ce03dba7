/**
 * `node fake-kubelet.ts SETTINGS`: nodes that exist only as objects, and the pods that the real
 * scheduler binds to them. It runs inside the sealed network, where every pod's address is local,
 * so that each pod answers over HTTP at its own.
 */
import { FakeContainer } from "./fake-container.ts";
import { KubeApi } from "./kube-api.ts";
import { KubeletPod } from "./kubelet-pod.ts";
import type { Pod } from "./pod-status.ts";

export interface FakeKubeletSettings {
  readonly server: string;
  readonly token: string;
  /** Names are the prefix and a number from 0 on. */
  readonly namePrefix: string;
  readonly nodeCount: number;
  /** GPUs of each node; 0 offers none. */
  readonly gpusPerNode: number;
  readonly gpuProduct: string;
  /** Part of the pod range that this kubelet gives addresses from, 0 to 15; another one's is another. */
  readonly addressBlock: number;
}

const maxPodsPerNode = 110;
/** A third of what the controllers wait before they call a node dead. */
const leaseSeconds = 40;
const leaseIntervalMs = 10_000;
const addressesPerBlock = 16 * 256;

class FakeKubelet {
  readonly #settings: FakeKubeletSettings;
  readonly #api: KubeApi;
  readonly #pods = new Map<string, KubeletPod>();
  readonly #usedAddresses = new Set<number>();
  readonly #addressOf = new Map<string, number>();
  readonly #nodes: ReadonlySet<string>;

  constructor(settings: FakeKubeletSettings) {
    this.#settings = settings;
    this.#api = new KubeApi(settings.server, settings.token);
    const { nodeCount, namePrefix } = settings;
    this.#nodes = new Set(Array.from({ length: nodeCount }, (_, i) => `${namePrefix}${i}`));
  }

  async run(): Promise<never> {
    await Promise.all([...this.#nodes].map((name) => this.#register(name)));
    setInterval(() => void this.#renewLeases().catch(report), leaseIntervalMs);
    for await (const change of this.#api.follow<Pod>(
      "/api/v1/pods",
      "fieldSelector=spec.nodeName!=",
    )) {
      if ("all" in change) this.#replace(change.all);
      else if (change.type === "DELETED") this.#forget(change.object.metadata.uid);
      else this.#observe(change.object);
    }
    throw new Error("the watch of pods has ended");
  }

  async #register(name: string): Promise<void> {
    const { gpusPerNode, gpuProduct } = this.#settings;
    const gpus = gpusPerNode === 0 ? {} : { "nvidia.com/gpu": String(gpusPerNode) };
    const resources = { cpu: "64", memory: "512Gi", pods: String(maxPodsPerNode), ...gpus };
    const labels = {
      "kubernetes.io/hostname": name,
      "kubernetes.io/os": "linux",
      ...(gpusPerNode === 0 ? {} : { "nvidia.com/gpu.product": gpuProduct }),
    };
    const now = new Date().toISOString();
    await this.#api.send("POST", "/api/v1/nodes", {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name, labels },
      status: {
        capacity: resources,
        allocatable: resources,
        conditions: [
          { type: "Ready", status: "True", reason: "KubeletReady", lastHeartbeatTime: now },
        ],
        nodeInfo: { kubeletVersion: "fake", operatingSystem: "linux", architecture: "amd64" },
      },
    });
    await this.#api.send("POST", leasesPath, {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name },
      spec: { holderIdentity: name, leaseDurationSeconds: leaseSeconds, renewTime: microTime() },
    });
  }

  async #renewLeases(): Promise<void> {
    const spec = { renewTime: microTime() };
    const renewals = [...this.#nodes].map((name) =>
      this.#api.send("PATCH", `${leasesPath}/${name}`, { spec }, "application/merge-patch+json"),
    );
    await Promise.all(renewals);
  }

  #replace(pods: readonly Pod[]): void {
    const present = new Set(pods.map(({ metadata }) => metadata.uid));
    for (const uid of this.#pods.keys()) if (!present.has(uid)) this.#forget(uid);
    for (const pod of pods) this.#observe(pod);
  }

  #observe(pod: Pod): void {
    const { uid } = pod.metadata;
    const known = this.#pods.get(uid);
    known?.observe(pod);
    if (known !== undefined || !this.#nodes.has(pod.spec.nodeName ?? "")) return;
    const place = {
      address: this.#takeAddress(uid),
      nodeAddress: new URL(this.#settings.server).hostname,
      startedAtMs: Date.now(),
    };
    this.#pods.set(
      uid,
      new KubeletPod(pod, place, {
        api: this.#api,
        startContainer: ({ place: { address }, restarted, instruction }) =>
          FakeContainer.start(address, restarted, instruction),
        onError: report,
      }),
    );
  }

  #forget(uid: string): void {
    const pod = this.#pods.get(uid);
    this.#pods.delete(uid);
    if (pod === undefined) return;
    // The address is free once nothing listens there any more.
    pod.end().then(() => this.#usedAddresses.delete(this.#addressOf.get(uid) ?? -1), report);
  }

  #takeAddress(uid: string): string {
    let index = 1;
    while (this.#usedAddresses.has(index)) index++;
    if (index >= addressesPerBlock) throw new Error(`more than ${addressesPerBlock} pods at once`);
    this.#usedAddresses.add(index);
    this.#addressOf.set(uid, index);
    const number = this.#settings.addressBlock * addressesPerBlock + index;
    return `10.88.${number >> 8}.${number & 255}`;
  }
}

const leasesPath = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

function microTime(): string {
  return new Date().toISOString().replace("Z", "000Z");
}

function report(error: unknown): void {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
}

if (import.meta.main) {
  const settings = JSON.parse(process.argv[2] ?? "") as FakeKubeletSettings;
  await new FakeKubelet(settings).run();
}
