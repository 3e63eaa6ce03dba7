import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { alive, freePort, Program, until } from "./program.ts";
import { tinyModel } from "./serving.ts";

interface ServiceStatus {
  readonly readyReplicas?: number;
  readonly scaling?: {
    readonly desiredReplicas: number;
    readonly history?: readonly { readonly to: number; readonly reason: string }[];
  };
  readonly conditions?: readonly {
    readonly type: string;
    readonly status: string;
    readonly reason: string;
    readonly message: string;
  }[];
}

describe("quire up", () => {
  let folder: string;
  let file: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "quire-up-"));
    file = join(folder, "manifest.yaml");
  });

  after(() => rm(folder, { recursive: true }));

  it("serves two models by name at one address", async () => {
    await writeFile(file, `${manifest("one")}---\n${manifest("two")}`);
    await using up = await Up.start(file);

    await up.ready("one", 1);
    await up.ready("two", 1);

    for (const model of ["one", "two"]) assert.equal((await up.complete(model)).status, 200);
    const unknown = await up.complete("three");
    assert.equal(unknown.status, 404);
    assert.match(await unknown.text(), /three.*one.*two/s);
  });

  it("takes a service from 1 to 3 replicas under load and back, failing no request", async () => {
    await writeFile(file, manifest("scaled", autoscaling));
    await using up = await Up.start(file);
    await up.ready("scaled", 1);

    await using load = new Program(
      [
        ...["bench", "--url", `${up.root}/v1`, "--model", "scaled", "--workload", "random"],
        ...["--input-length", "5", "--output-length", "150", "--ignore-eos"],
        ...["--requests", "4000", "--concurrency", "48", "--warmup", "0"],
      ],
      {},
    );
    await up.ready("scaled", 3);
    assert.match(await up.get("scaled"), /scaled +llama3 +True +\d\/\d/);
    const { scaling } = await up.status("scaled");
    const why = scaling?.history?.map(({ to, reason }) => `${to}: ${reason}`).join("\n") ?? "";
    assert.match(why, /3: demand .* tokens .* needs|3: .* waiting prompt tokens/);
    const result = await load.exited;

    assert.equal(result.code, 0, load.output);
    assert.match(load.output, /requests completed, failed +4000, 0/);
    await until("one replica is left", 60_000, async () => {
      const status = await up.status("scaled");
      return status.scaling?.desiredReplicas === 1 && status.readyReplicas === 1;
    });
  });

  it("restarts a replica that was killed, and loses no more than what it was answering", async () => {
    await writeFile(file, manifest("killed", "  replicas: 2\n  scaling: { mode: Static }\n"));
    await using up = await Up.start(file);
    await up.ready("killed", 2);
    const [victim] = await up.replicaPids();
    assert.ok(victim !== undefined);

    const answers = Array.from({ length: 40 }, async (_, i) => {
      await sleep(10 * i);
      return up.complete("killed", 200);
    });
    await sleep(150);
    process.kill(victim, "SIGKILL");
    const responses = await Promise.all(answers);

    const failed = responses.filter((response) => response.status !== 200);
    assert.ok(failed.length <= 20, `${failed.length} of 40 failed`);
    await up.ready("killed", 2);
    assert.ok(!(await up.replicaPids()).includes(victim));
  });

  it("converges on the last of an edit every second for a minute, and serves meanwhile", async () => {
    const edit = (replicas: number) =>
      manifest("edited", `  replicas: ${replicas}\n  scaling: { mode: Static }\n`);
    await writeFile(file, edit(1));
    await using up = await Up.start(file);
    await up.ready("edited", 1);

    let failed = 0;
    for (let second = 0; second < 60; second++) {
      await writeFile(file, second % 7 === 3 ? "kind: [" : edit(1 + (second % 2)));
      if ((await up.complete("edited")).status !== 200) failed += 1;
      await sleep(1_000);
    }
    await writeFile(file, edit(2));

    await up.ready("edited", 2);
    assert.equal(failed, 0);
    assert.match(up.program.output, /manifest\.yaml:\d+/);
  });

  it("reports a wrong edit with line, field and remedy, and keeps the old state", async () => {
    await writeFile(file, manifest("kept"));
    await using up = await Up.start(file);
    await up.ready("kept", 1);

    await writeFile(file, manifest("kept", "  scaling: { minReplicas: 5, maxReplicas: 2 }\n"));

    await until("the mistake is reported", 5_000, () =>
      /manifest\.yaml:\d+: spec\.scaling.*minReplicas is 5.*raise maxReplicas/.test(
        up.program.output,
      ),
    );
    assert.equal((await up.complete("kept")).status, 200);
  });

  it("leaves no process and no port behind on Ctrl-C, nor after kill -9", async () => {
    for (const signal of ["SIGINT", "SIGKILL"] as const) {
      await writeFile(file, manifest("gone"));
      const up = await Up.start(file);
      await up.ready("gone", 1);
      const pids = await up.replicaPids();
      assert.equal(pids.length, 1);

      up.program.signal(signal);
      const exit = await up.program.exited;

      if (signal === "SIGINT") assert.equal(exit.code, 0, up.program.output);
      await until("its replicas are gone", 5_000, () => !pids.some(alive));
      await assert.rejects(fetch(up.root));
    }
  });

  it("says that there is no GPU where a manifest asks for one, with the remedy", async () => {
    await writeFile(file, manifest("gpu").replace("count: 0", "count: 1"));
    await using up = await Up.start(file);

    const ready = await until("a condition says so", 10_000, async () => {
      const { conditions = [] } = await up.status("gpu");
      return conditions.find((c) => c.type === "Ready" && c.reason === "InsufficientGPU");
    });

    assert.match(ready.message, /spec\.resources\.gpu\.count to 0/);
  });
});

const autoscaling = `
  engine: { maxSeqs: 4 }
  scaling:
    minReplicas: 1
    maxReplicas: 3
    behavior: { scaleDown: { stabilizationWindowSeconds: 5, periodSeconds: 2 } }
`;

function manifest(name: string, more = ""): string {
  return `apiVersion: quire.dev/v1alpha1
kind: InferenceService
metadata: { name: ${name} }
spec:
  model: { uri: "file://${tinyModel}" }
  resources: { gpu: { count: 0 } }
${more}`;
}

class Up implements AsyncDisposable {
  readonly program: Program;
  readonly root: string;
  readonly #port: number;

  private constructor(program: Program, port: number) {
    this.program = program;
    this.#port = port;
    this.root = `http://127.0.0.1:${port}`;
  }

  static async start(file: string): Promise<Up> {
    const port = await freePort();
    const program = new Program(["up", "-f", file, "--port", String(port)], {});
    const up = new Up(program, port);
    await until("the front answers", 20_000, async () => {
      if (!program.running) throw new Error(`quire up ended: ${program.output}`);
      const response = await fetch(`${up.root}/v1/models`).catch(() => undefined);
      return response?.ok;
    });
    return up;
  }

  async status(name: string): Promise<ServiceStatus> {
    const path = `/apis/quire.dev/v1alpha1/namespaces/default/inferenceservices/${name}`;
    const response = await fetch(`${this.root}${path}`);
    if (!response.ok) return {};
    return ((await response.json()) as { status?: ServiceStatus }).status ?? {};
  }

  async ready(name: string, count: number): Promise<void> {
    await until(`${count} replicas of ${name} are ready`, 60_000, async () => {
      if (!this.program.running) throw new Error(`quire up ended: ${this.program.output}`);
      return (await this.status(name)).readyReplicas === count;
    });
  }

  complete(model: string, maxTokens = 4): Promise<Response> {
    return fetch(`${this.root}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model, prompt: "a b c", max_tokens: maxTokens, ignore_eos: true }),
    });
  }

  /** What `quire get NAME` prints. */
  async get(name: string): Promise<string> {
    await using program = new Program(["get", name, "--port", String(this.#port)], {});
    const { code } = await program.exited;
    assert.equal(code, 0, program.output);
    return program.output;
  }

  /** Process ids of the engines, from the list of pods. */
  async replicaPids(): Promise<number[]> {
    await using program = new Program(
      ["get", "pods", "-o", "json", "--port", String(this.#port)],
      {},
    );
    await program.exited;
    const { items } = JSON.parse(program.output) as { items: { status: { pid?: number } }[] };
    return items.flatMap((item) => item.status.pid ?? []);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.program.running) this.program.signal("SIGTERM");
    const timer = setTimeout(() => this.program.signal("SIGKILL"), 20_000);
    await this.program.exited;
    clearTimeout(timer);
  }
}
