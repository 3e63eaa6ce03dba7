/** A loopback port outside of the sealed network that leads to the API server inside. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { controlPlaneAddress, type SealedNetwork, type SealedProcess } from "./sealed-network.ts";

const relayFile = fileURLToPath(new URL("relay.ts", import.meta.url));

export class Door {
  /** The API server's certificate knows the name `localhost`, and none of the loopback addresses. */
  readonly url: string;
  readonly #server: Server;
  readonly #relay: SealedProcess;
  readonly #connections: ReadonlySet<Socket>;

  private constructor(server: Server, relay: SealedProcess, connections: ReadonlySet<Socket>) {
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("the door has no port");
    this.url = `https://localhost:${address.port}`;
    this.#server = server;
    this.#relay = relay;
    this.#connections = connections;
  }

  /** @param socketFile a path for the Unix socket between the two networks; nothing is there yet */
  static async open(network: SealedNetwork, socketFile: string, logFile: string): Promise<Door> {
    const relay = network.spawn(
      process.execPath,
      [relayFile, socketFile, controlPlaneAddress, "443"],
      { logFile },
    );
    const connections = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (client) => {
      const inside = connect({ path: socketFile, allowHalfOpen: true });
      connections.add(client);
      client.setNoDelay(true);
      client.pipe(inside).pipe(client);
      client.on("error", () => inside.destroy());
      inside.on("error", () => client.destroy());
      inside.on("close", () => client.destroy());
      client.on("close", () => {
        connections.delete(client);
        inside.destroy();
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new Door(server, relay, connections);
  }

  /** Cuts every connection that is open now; new ones are let in. */
  cut(): void {
    for (const connection of this.#connections) connection.resetAndDestroy();
  }

  /** Connections stay open and carry nothing, as when a machine on the way has died. */
  async stall(): Promise<void> {
    await this.#relay.signal("SIGSTOP");
  }

  async resume(): Promise<void> {
    await this.#relay.signal("SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    for (const connection of this.#connections) connection.destroy();
    await once(this.#server, "close");
  }
}
