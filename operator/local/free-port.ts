import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";

/**
 * A loopback port that nobody listens on.
 *
 * Someone else may take it before it is used: the engine then ends with an error that says so, and
 * its next start asks for another.
 */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
