/**
 * `node relay.ts SOCKET HOST PORT`: hands each connection of a Unix socket on to a TCP address. It
 * runs inside the sealed network; Unix sockets are files, so the test outside can reach this one.
 */
import { connect, createServer } from "node:net";

const [socketFile, host, port] = process.argv.slice(2);

// Half-open, so that each side may finish sending after the other one has.
createServer({ allowHalfOpen: true }, (outside) => {
  const inside = connect({ host: host ?? "", port: Number(port), allowHalfOpen: true });
  inside.setNoDelay(true);
  outside.pipe(inside).pipe(outside);
  outside.on("error", () => inside.destroy());
  inside.on("error", () => outside.destroy());
  outside.on("close", () => inside.destroy());
  inside.on("close", () => outside.destroy());
}).listen(socketFile);
