import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { freePort } from "./program.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

describe("npm start -- --once", () => {
  it("builds, fetches the model, prints an answer and a line to paste, and ends with 0", async () => {
    const { code, stdout, stderr } = await npmStart(["--once", "--port", String(await freePort())]);

    assert.equal(code, 0, stderr);
    assert.match(stderr, /endpoint: http:\/\/127\.0\.0\.1:\d+\/v1/);
    assert.match(stderr, /smollm2: Serving: 1\/1 replica serving/);
    assert.match(stdout, /> You are a pirate[\s\S]*pirate, matey/);
    assert.match(stdout, /^curl http:\/\/127\.0\.0\.1:\d+\/v1\/chat\/completions/m);
  });

  it("names a flag that it does not have", async () => {
    const { code, stderr } = await npmStart(["--twice"]);

    assert.equal(code, 1);
    assert.match(stderr, /'--twice'.*The flags are --once and --port/);
  });
});

async function npmStart(args: readonly string[]) {
  const child = spawn("npm", ["start", "--silent", "--", ...args], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
}
