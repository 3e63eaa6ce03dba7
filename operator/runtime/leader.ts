import type { V1Lease } from "@kubernetes/client-node";
import { isAlreadyExists, isCode, isConflict } from "./api-error.ts";
import type { Fence } from "./fence.ts";
import {
  apiVersionOf,
  collectionPath,
  objectPath,
  type Resource,
  type Stored,
} from "./kubernetes-object.ts";
import type { Transport } from "./transport.ts";

type Lease = Stored<V1Lease>;

const leaseResource: Resource = {
  group: "coordination.k8s.io",
  version: "v1",
  kind: "Lease",
  plural: "leases",
};

/** A leader that has not renewed for this long is replaced. */
const leaseDurationMs = 15_000;
/** A leader stops writing this long after its last renewal: well before it is replaced. */
export const renewDeadlineMs = 10_000;
/** Time between two attempts to get or to renew the lease. */
export const retryMs = 2_000;

/** `lost`: led, and does not any more. There is no way back: the process ends and starts anew. */
export type Leadership = "following" | "leading" | "lost";

export interface ElectorOptions {
  readonly transport: Pick<Transport, "call">;
  readonly namespace: string;
  readonly leaseName: string;
  /** Unique to this process. */
  readonly identity: string;
  readonly fence: Fence;
  /** A clock that does not jump, the fence's. */
  readonly nowMs: () => number;
}

/**
 * Holds a Lease, or waits for its holder to stop renewing it.
 *
 * Whether a holder is alive is judged by how long the lease has not changed on our own clock: clocks
 * of other machines are not compared with.
 */
export class Elector {
  readonly #options: ElectorOptions;
  #leadership: Leadership = "following";
  #seen: { readonly version: string | undefined; readonly sinceMs: number } | undefined;

  constructor(options: ElectorOptions) {
    this.#options = options;
  }

  /** One attempt to get or to renew the lease. @throws what kept it from being tried. */
  async tick(): Promise<Leadership> {
    if (this.#leadership === "leading" && !this.#options.fence.isOpen) this.#leadership = "lost";
    if (this.#leadership === "lost") return "lost";
    const sentMs = this.#options.nowMs();
    const held = await this.#tryToHold().catch((error: unknown) => {
      // Another one was faster: it is the holder that the next attempt sees.
      if (isConflict(error) || isAlreadyExists(error)) return false;
      throw error;
    });
    if (held) {
      this.#options.fence.openUntil(sentMs + renewDeadlineMs);
      this.#leadership = "leading";
    } else if (this.#leadership === "leading") {
      this.#options.fence.close();
      this.#leadership = "lost";
    }
    return this.#leadership;
  }

  /** Lets the next one lead at once. */
  async release(): Promise<void> {
    this.#options.fence.close();
    if (this.#leadership !== "leading") return;
    this.#leadership = "lost";
    const lease = await this.#get();
    if (lease?.spec?.holderIdentity !== this.#options.identity) return;
    await this.#put(lease, { ...lease.spec, holderIdentity: "", leaseDurationSeconds: 1 });
  }

  async #tryToHold(): Promise<boolean> {
    const lease = await this.#get();
    if (lease === undefined) {
      await this.#create();
      return true;
    }
    const { holderIdentity } = lease.spec ?? {};
    const isOurs = holderIdentity === this.#options.identity;
    if (!isOurs && holderIdentity && this.#isAlive(lease)) return false;
    const { acquireTime, leaseTransitions = 0 } = lease.spec ?? {};
    await this.#put(lease, {
      ...this.#claim(),
      ...(isOurs
        ? { ...(acquireTime === undefined ? {} : { acquireTime }), leaseTransitions }
        : { leaseTransitions: leaseTransitions + 1 }),
    });
    return true;
  }

  #isAlive({ metadata: { resourceVersion } }: Lease): boolean {
    const nowMs = this.#options.nowMs();
    if (this.#seen === undefined || this.#seen.version !== resourceVersion) {
      this.#seen = { version: resourceVersion, sinceMs: nowMs };
    }
    return nowMs - this.#seen.sinceMs < leaseDurationMs;
  }

  /** The times are for people who read the lease. */
  #claim() {
    const time = new Date().toISOString().replace("Z", "000Z");
    return {
      holderIdentity: this.#options.identity,
      leaseDurationSeconds: leaseDurationMs / 1_000,
      acquireTime: time,
      renewTime: time,
    };
  }

  async #get(): Promise<Lease | undefined> {
    const { transport, namespace, leaseName: name } = this.#options;
    const path = objectPath(leaseResource, { namespace, name });
    return transport.call<Lease>({ method: "GET", path }).catch((error: unknown) => {
      if (isCode(error, 404)) return undefined;
      throw error;
    });
  }

  async #create(): Promise<void> {
    const { transport, namespace, leaseName: name } = this.#options;
    await transport.call({
      method: "POST",
      path: collectionPath(leaseResource, namespace),
      body: {
        apiVersion: apiVersionOf(leaseResource),
        kind: leaseResource.kind,
        metadata: { name, namespace },
        spec: { ...this.#claim(), leaseTransitions: 0 },
      },
    });
  }

  /** Refused with a conflict if the lease has changed since it was read. */
  async #put(lease: Lease, spec: Lease["spec"]): Promise<void> {
    await this.#options.transport.call({
      method: "PUT",
      path: objectPath(leaseResource, lease.metadata),
      body: { ...lease, spec },
    });
  }
}
