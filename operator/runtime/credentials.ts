import { readFile } from "node:fs/promises";
import type { RequestOptions } from "node:https";
import { join } from "node:path";
import type { KubeConfig } from "@kubernetes/client-node";

/** Everything needed to speak to one API server. Plain data: it crosses to a worker thread. */
export interface Connection {
  /** Such as `https://10.96.0.1:443`. */
  readonly origin: string;
  readonly headers: Readonly<Record<string, string>>;
  /** PEM texts and names; a change of any of them makes a new pool of connections. */
  readonly tls: {
    readonly ca?: string;
    readonly cert?: string;
    readonly key?: string;
    readonly servername?: string;
    readonly rejectUnauthorized?: boolean;
  };
}

export interface Credentials {
  current(): Promise<Connection>;
  /** Told that the server refused them: they are read anew before the next request. */
  refused(): void;
}

// Files of a pod's token and CA are replaced hours before what they replace ends.
const defaultMaxAgeMs = 30_000;

/** Reads credentials again often enough that a rotation goes unnoticed, and not for each request. */
export class RotatingCredentials implements Credentials {
  readonly #read: () => Promise<Connection>;
  readonly #maxAgeMs: number;
  #known: { readonly connection: Promise<Connection>; readonly untilMs: number } | undefined;

  constructor(read: () => Promise<Connection>, maxAgeMs = defaultMaxAgeMs) {
    this.#read = read;
    this.#maxAgeMs = maxAgeMs;
  }

  current(): Promise<Connection> {
    if (this.#known === undefined || performance.now() >= this.#known.untilMs) {
      const connection = this.#read();
      this.#known = { connection, untilMs: performance.now() + this.#maxAgeMs };
      connection.catch(() => this.refused());
    }
    return this.#known.connection;
  }

  refused(): void {
    this.#known = undefined;
  }
}

/** Where Kubernetes mounts a pod's identity. */
const podFolder = "/var/run/secrets/kubernetes.io/serviceaccount";

/**
 * Credentials of the pod that this process runs in; `undefined` outside of one.
 *
 * The client library does the same, for 90 MB of memory: it is loaded for kubeconfigs alone.
 */
export function podCredentials(
  env: Readonly<Record<string, string | undefined>>,
  folder = podFolder,
): Credentials | undefined {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = "443" } = env;
  if (host === undefined || host === "") return undefined;
  const origin = `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
  return new RotatingCredentials(async () => {
    const [token, ca] = await Promise.all([
      readFile(join(folder, "token"), "utf8"),
      readFile(join(folder, "ca.crt"), "utf8"),
    ]);
    return { origin, headers: { Authorization: `Bearer ${token.trim()}` }, tls: { ca } };
  });
}

/**
 * Credentials of a kubeconfig's current context.
 *
 * @throws Error for one that names no cluster
 */
export function kubeConfigCredentials(config: KubeConfig): Credentials {
  const origin = config.getCurrentCluster()?.server.replace(/\/$/, "");
  if (origin === undefined) {
    throw new Error(
      "no Kubernetes cluster is configured: run inside a pod, or set KUBECONFIG to a kubeconfig with a current context",
    );
  }
  return new RotatingCredentials(async () => {
    const options: RequestOptions = {};
    await config.applyToHTTPSOptions(options);
    return { origin, headers: headersOf(options), tls: tlsOf(options) };
  });
}

function headersOf({ headers, auth }: RequestOptions): Record<string, string> {
  const given = { ...(headers as Record<string, string> | undefined) };
  if (!auth) return given;
  return { ...given, Authorization: `Basic ${Buffer.from(auth).toString("base64")}` };
}

function tlsOf({ ca, cert, key, servername, rejectUnauthorized }: RequestOptions) {
  const pem = Object.entries({ ca, cert, key }).filter(([, value]) => value);
  return {
    ...Object.fromEntries(pem.map(([name, value]) => [name, String(value)])),
    ...(servername === undefined ? {} : { servername }),
    ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized }),
  };
}
