import type { RequestOptions } from "node:https";
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
const maxAgeMs = 30_000;

/** Credentials of a kubeconfig or of a pod, read again often enough that a rotation goes unnoticed. */
export class KubeConfigCredentials implements Credentials {
  readonly #config: KubeConfig;
  readonly #origin: string;
  #known: { readonly connection: Promise<Connection>; readonly untilMs: number } | undefined;

  /** @throws Error for a configuration that names no cluster */
  constructor(config: KubeConfig) {
    const server = config.getCurrentCluster()?.server;
    if (server === undefined) {
      throw new Error(
        "no Kubernetes cluster is configured: run inside a pod, or set KUBECONFIG to a kubeconfig with a current context",
      );
    }
    this.#config = config;
    this.#origin = server.replace(/\/$/, "");
  }

  current(): Promise<Connection> {
    if (this.#known === undefined || performance.now() >= this.#known.untilMs) {
      const connection = this.#read();
      this.#known = { connection, untilMs: performance.now() + maxAgeMs };
      connection.catch(() => this.refused());
    }
    return this.#known.connection;
  }

  refused(): void {
    this.#known = undefined;
  }

  async #read(): Promise<Connection> {
    const options: RequestOptions = {};
    await this.#config.applyToHTTPSOptions(options);
    const { auth, rejectUnauthorized } = options;
    const basic = auth ? `Basic ${Buffer.from(auth).toString("base64")}` : undefined;
    const headers = { ...(options.headers as Record<string, string> | undefined) };
    if (basic !== undefined) headers["Authorization"] = basic;
    const texts = { ca: options.ca, cert: options.cert, key: options.key };
    const pem = Object.entries(texts).filter(([, value]) => value !== undefined && value !== null);
    return {
      origin: this.#origin,
      headers,
      tls: {
        ...Object.fromEntries(pem.map(([name, value]) => [name, String(value)])),
        ...(options.servername === undefined ? {} : { servername: options.servername }),
        ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized }),
      },
    };
  }
}
