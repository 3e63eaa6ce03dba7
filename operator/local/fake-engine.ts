// biome-ignore-all lint/style/noProcessEnv: a program of its own, as main.ts files are.
/**
 * A small program that speaks `engine/contract.ts`, for the tests of this folder and of the gateway.
 *
 * The last part of the model's path says how it behaves, as words joined by commas:
 * `load=MS` loads so long, `crash` ends at once with an error of its own, `die` ends so silently,
 * `stall` never finishes loading, `token=MS` pauses before each token, `stubborn` ignores SIGTERM,
 * `wedge=MS` stops being live after a while, `child` starts a process that would outlive it.
 */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { env, exit, pid } from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { engineMetrics, enginePaths, terminationLogVariable } from "../../engine/contract.ts";
import { exitWithParent } from "../exit-with-parent.ts";

const totalBytes = 1_000_000;
const startedAtMs = Date.now();
const behaviour = new Map(
  (env["QUIRE_MODEL"] ?? "")
    .split("/")
    .at(-1)
    ?.split(",")
    .map((word) => [word.split("=")[0] ?? "", Number(word.split("=")[1] ?? 0)]),
);
let draining = false;
let inFlight = 0;
let received = 0;

if (env["QUIRE_PARENT_FD"] !== undefined) exitWithParent(Number(env["QUIRE_PARENT_FD"]));
if (behaviour.has("crash")) {
  const last = { code: "MODEL_UNSUPPORTED", message: "no such model", remedy: "Name another." };
  writeFileSync(env[terminationLogVariable] ?? "/dev/null", JSON.stringify(last));
  exit(1);
}
if (behaviour.has("die")) {
  process.stderr.write("first line\nthe reason is here\n");
  exit(3);
}
if (behaviour.has("child")) spawn("sleep", ["300"], { stdio: "ignore" });

process.on("SIGTERM", () => {
  if (behaviour.has("stubborn")) return;
  draining = true;
  if (inFlight === 0) exit(0);
});

createServer((request, response) => {
  answer(request, response).catch((error: unknown) => response.destroy(error as Error));
}).listen(Number(env["QUIRE_PORT"]), env["QUIRE_HOST"]);

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  switch (request.url) {
    case enginePaths.startup:
      return send(response, loaded() ? 200 : 503, startup());
    case enginePaths.live:
      return send(response, wedged() ? 503 : 200, {});
    case enginePaths.ready:
      return send(response, loaded() && !draining ? 200 : 503, {});
    case enginePaths.metrics:
      return void response.end(metrics());
    default:
      return generate(request, response);
  }
}

function loaded(): boolean {
  return !behaviour.has("stall") && Date.now() - startedAtMs >= (behaviour.get("load") ?? 0);
}

function wedged(): boolean {
  const after = behaviour.get("wedge");
  return after !== undefined && Date.now() - startedAtMs >= after;
}

function startup(): object {
  if (loaded()) return { phase: "Serving", doneBytes: 0, totalBytes: 0, message: "" };
  const loadMs = behaviour.get("load") ?? Number.POSITIVE_INFINITY;
  const doneBytes = Math.floor((totalBytes * (Date.now() - startedAtMs)) / loadMs);
  return { phase: "Loading", doneBytes, totalBytes, message: "weights" };
}

function metrics(): string {
  const values = {
    [engineMetrics.kvTokensInUse]: inFlight * 100,
    [engineMetrics.kvTokensTotal]: 1_000,
    [engineMetrics.runningRequests]: inFlight,
    [engineMetrics.waitingRequests]: 0,
    [engineMetrics.waitingPromptTokens]: 0,
    [engineMetrics.receivedRequests]: received,
    [engineMetrics.steps]: received,
    [engineMetrics.prefillTokensPerSecond]: 500,
    [engineMetrics.decodeTokensPerSecond]: 50,
    [engineMetrics.draining]: Number(draining),
  };
  return Object.entries(values)
    .map(([name, value]) => `# TYPE ${name} gauge\n${name} ${value}\n`)
    .join("");
}

async function generate(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  if (draining) return send(response, 503, { error: { code: "draining" } });
  const body = JSON.parse(Buffer.concat(parts).toString("utf8")) as Record<string, unknown>;
  inFlight++;
  received++;
  try {
    await (body["stream"] === true ? stream(body, response) : complete(body, response));
  } finally {
    inFlight--;
    if (draining && inFlight === 0) response.once("close", () => exit(0));
  }
}

async function complete(body: Record<string, unknown>, response: ServerResponse): Promise<void> {
  await delay(tokenCount(body) * (behaviour.get("token") ?? 0));
  send(response, 200, { pid, echo: body });
}

async function stream(body: Record<string, unknown>, response: ServerResponse): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (let i = 0; i < tokenCount(body) && !response.destroyed; i++) {
    await delay(behaviour.get("token") ?? 0);
    const choices = [{ index: 0, delta: { content: `${i} ` }, finish_reason: null }];
    response.write(`data: ${JSON.stringify({ pid, choices })}\n\n`);
  }
  response.end("data: [DONE]\n\n");
}

function tokenCount(body: Record<string, unknown>): number {
  return Number(body["max_tokens"] ?? 4);
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}
