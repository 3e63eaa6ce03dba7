#!/usr/bin/env node
// Plain JavaScript without dependencies: an old Node must get as far as the message below.
import { readFileSync } from "node:fs";

const oldestNode = [22, 18];
const help = `Usage: quire <command> [flags]

  up -f FILE    serve a manifest on this machine
  get           show what a running quire up serves
  serve MODEL   serve one model
  bench         measure an OpenAI endpoint
  operator      reconcile InferenceServices, inside a Kubernetes cluster

quire <command> --help tells the flags of a command.
`;

/** Commands, each with the program that runs it. */
const commands = {
  up: () => import("./local/main.ts"),
  get: () => import("./local/main.ts"),
  serve: () => import("../engine/main.ts"),
  bench: () => import("../engine/main.ts"),
  operator: () => import("./main.ts"),
};
const clusterCommands = ["gateway"];

process.exitCode = await run(process.argv[2], process.argv.slice(3));
// Whatever a library keeps open must not keep a command alive that has ended.
process.exit();

async function run(command, argv) {
  if (isOldNode(process.versions.node)) {
    return fail(
      `quire needs Node.js ${oldestNode.join(".")} or newer, and this is ${process.versions.node}: ` +
        "install Node.js 24 (https://nodejs.org), or run `npm ci` here and use node_modules/.bin/node",
    );
  }
  if (command === "--version" || command === "-V") return print(`${packageVersion()}\n`);
  if (command === undefined) return fail(help.trimEnd());
  if (command === "--help" || command === "-h" || command === "help") return print(help);
  if (clusterCommands.includes(command)) {
    return fail(
      `quire ${command} runs inside Kubernetes and comes with the Kubernetes release: ` +
        "on this machine use quire up, which contains it",
    );
  }
  if (!Object.hasOwn(commands, command)) {
    return fail(`there is no command "${command}"\n\n${help.trimEnd()}`);
  }
  await followParent();
  const { main } = await commands[command]();
  return main(command, argv);
}

/** A replica of `quire up` ends with it; a container has no such variable. */
async function followParent() {
  // biome-ignore lint/style/noProcessEnv: the program's entry, as main.ts files are.
  const fd = process.env.QUIRE_PARENT_FD;
  if (fd === undefined) return;
  const { exitWithParent } = await import("./exit-with-parent.ts");
  exitWithParent(Number(fd));
}

function isOldNode(version) {
  const [major, minor] = version.split(".").map(Number);
  return major < oldestNode[0] || (major === oldestNode[0] && minor < oldestNode[1]);
}

function packageVersion() {
  return JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).version;
}

function print(text) {
  process.stdout.write(text);
  return 0;
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  return 2;
}
