import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { describe, it } from "node:test";
import { until } from "../program.ts";
import { namespacesMissing } from "./requirements.ts";
import { SealedNetwork, type SealedProcess } from "./sealed-network.ts";

const deadlineMs = 20_000;

describe("a sealed network", { skip: namespacesMissing() ?? false, timeout: 60_000 }, () => {
  it("has no way out", async () => {
    await using network = await SealedNetwork.open();
    await using outside = await Listener.open();

    const routes = await outputOf(network.spawn("ip", ["route", "get", "192.0.2.1"]));
    const links = await outputOf(network.spawn("ip", ["-brief", "link"]));
    const loopback = await outputOf(network.spawn("node", ["-e", connectScript(outside.port)]));

    assert.match(routes, /unreachable/);
    assert.match(links, /^lo .*\n$/);
    assert.match(loopback, /ECONNREFUSED/);
  });

  it("takes servers at every pod address", async () => {
    await using network = await SealedNetwork.open();
    const script = `
      const net = require("node:net");
      const server = net.createServer((socket) => socket.end("hello"));
      server.listen(80, "10.88.7.9", () => net.connect(80, "10.88.7.9").on("data", (data) => {
        console.log(String(data));
        process.exit();
      }));`;

    assert.equal(await outputOf(network.spawn("node", ["-e", script])), "hello\n");
  });

  it("lets in nothing of the environment", async () => {
    await using network = await SealedNetwork.open();

    const names = (await outputOf(network.spawn("env", [], { env: { GIVEN: "1" } })))
      .trim()
      .split("\n")
      .map((line) => line.split("=")[0]);

    assert.deepEqual(names.toSorted(), ["GIVEN", "PATH"]);
  });

  it("hands signals to the program itself", async () => {
    await using network = await SealedNetwork.open();
    const script = 'trap "echo got it; exit 3" TERM; echo ready; while :; do sleep 0.05; done';
    const program = network.spawn("bash", ["-c", script]);
    const lines = createInterface({ input: readable(program) });
    await once(lines, "line");

    await program.signal("SIGTERM");

    const [line] = await once(lines, "line");
    await program.closed;
    assert.deepEqual([line, program.child.exitCode], ["got it", 3]);
  });

  it("ends every program with it", async () => {
    const network = await SealedNetwork.open();
    const pid = await backgroundSleep(network);
    assert.ok(existsSync(`/proc/${pid}`));

    await network[Symbol.asyncDispose]();

    assert.equal(existsSync(`/proc/${pid}`), false);
  });

  it("ends a program that is stopped", async () => {
    const network = await SealedNetwork.open();
    const program = network.spawn("sleep", ["4444"]);
    await program.signal("SIGSTOP");

    await network[Symbol.asyncDispose]();

    await program.closed;
  });

  it("ends every program when its owner is killed", async () => {
    const module = new URL("sealed-network.ts", import.meta.url).href;
    const script = `
      const { SealedNetwork } = await import(${JSON.stringify(module)});
      const network = await SealedNetwork.open();
      network.spawn("sleep", ["4242"]);
      setTimeout(() => console.log(network.firstPid), 200);`;
    const owner = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [firstPid] = await once(createInterface({ input: owner.stdout }), "line");
    assert.ok(existsSync(`/proc/${firstPid}`));

    owner.kill("SIGKILL");

    // The kernel keeps the first process until all others of its namespace are gone.
    await until("the network is empty", deadlineMs, () => !existsSync(`/proc/${firstPid}`));
  });
});

class Listener {
  readonly port: number;
  readonly #server: ReturnType<typeof createServer>;

  private constructor(server: ReturnType<typeof createServer>) {
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    this.port = address.port;
    this.#server = server;
  }

  static async open(): Promise<Listener> {
    const server = createServer((socket) => socket.end("outside"));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new Listener(server);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    await once(this.#server, "close");
  }
}

function connectScript(port: number): string {
  return `require("node:net").connect(${port}, "127.0.0.1").on("error", (e) => console.log(e.code))`;
}

/** A program that outlives the one that started it. */
async function backgroundSleep(network: SealedNetwork): Promise<number | undefined> {
  const program = network.spawn("bash", ["-c", "sleep 4343 & echo started; wait"]);
  await once(createInterface({ input: readable(program) }), "line");
  return await program.pid();
}

function readable({ child }: SealedProcess) {
  if (child.stdout === null) throw new Error("there is no output");
  return child.stdout;
}

async function outputOf(program: SealedProcess): Promise<string> {
  const { child } = program;
  if (child.stdout === null || child.stderr === null) throw new Error("there is no output");
  const [out, error] = await Promise.all([text(child.stdout), text(child.stderr)]);
  await program.closed;
  return out + error;
}
