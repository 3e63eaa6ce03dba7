import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { InferenceService } from "../api/inference-service.ts";
import { conditionOf } from "../reconcile/status.ts";
import { freePort } from "./free-port.ts";
import { get } from "./get.ts";
import { defaultReplicaTiming } from "./replica-process.ts";
import { Up } from "./up.ts";

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "quire-up-"));
});
after(() => rm(folder, { recursive: true, force: true }));

describe("Up", () => {
  it("serves every model of a manifest at one address, and tells kubectl's columns", async (t) => {
    const { up, port, env } = await start(t, service("one") + service("two"));
    await ready(up, "one", 1);
    await ready(up, "two", 1);

    const answers = await Promise.all(["one", "two"].map((model) => complete(up, { model })));
    await until(() => statusOf(up, "one")?.display?.kv === "0%");

    assert.deepEqual(
      answers.map(({ status }) => status),
      [200, 200],
    );
    assert.match(
      await get([], { port, output: undefined, env }),
      /^NAME +MODEL +READY +REPLICAS +KV +QUEUE +REASON +AGE\none +plain +True +1\/1 +0% +0 +Serving +\d+s\ntwo /,
    );
    assert.match(await get(["one"], { port: undefined, output: "wide", env }), /Serving +http:/);
    assert.match(
      await get(["pods"], { port, output: undefined, env }),
      /one-\w+-0 +1\/1 +Running +0/,
    );
    const object = JSON.parse(await get(["qis", "two"], { port, output: "json", env }));
    assert.equal(conditionOf(object.status, "Ready")?.status, "True");
    assert.match(
      await get(["two"], { port, output: "yaml", env }),
      /scaling:\n +desiredReplicas: 1/,
    );
    await assert.rejects(get(["three"], { port, output: undefined, env }), /"three" not found/);
  });

  it("replaces a replica that is killed under load, and loses no more than what it was answering", async (t) => {
    const { up } = await start(t, service("one", "token=5", 2));
    await ready(up, "one", 2);
    const [victim] = up.cluster.pods();
    const pid = victim?.replica?.pid ?? assert.fail("no process");

    const answers = Array.from({ length: 60 }, async (_, i) => {
      await delay(i * 10);
      return (await complete(up, { model: "one", max_tokens: 10 })).status;
    });
    await delay(200);
    process.kill(pid, "SIGKILL");
    const statuses = await Promise.all(answers);

    // Answers that have not begun are asked for again elsewhere: not one is lost.
    assert.deepEqual(new Set(statuses), new Set([200]));
    await ready(up, "one", 2);
    assert.equal(
      up.cluster.pods().find(({ spec }) => spec.name === victim?.spec.name)?.replica?.restartCount,
      1,
    );
  });

  it("tells the engine's own error in the status while it fails again and again", async (t) => {
    const { up } = await start(t, service("bad", "crash"));

    await until(() => (up.cluster.pods()[0]?.replica?.restartCount ?? 0) >= 2);
    await until(() => /restarted/.test(conditionOf(statusOf(up, "bad"), "Ready")?.message ?? ""));

    const condition = conditionOf(statusOf(up, "bad"), "Ready");
    assert.equal(condition?.status, "False");
    assert.equal(condition?.reason, "UnsupportedArchitecture");
    assert.match(condition?.message ?? "", /no such model. Name another\./);
    const refused = await complete(up, { model: "bad" });
    assert.equal(refused.status, 503);
    assert.match(await refused.text(), /no such model/);
  });

  it("says that there is no GPU, and serves once the manifest asks for none", async (t) => {
    const { up, file } = await start(t, service("one").replace("count: 0", "count: 1"));
    await until(() => conditionOf(statusOf(up, "one"), "Ready")?.reason === "InsufficientGPU");
    assert.match(
      conditionOf(statusOf(up, "one"), "Ready")?.message ?? "",
      /0 of 0 on this machine free.*resources\.gpu\.count/,
    );

    await writeFile(file, service("one"));

    await ready(up, "one", 1);
  });

  it("adds, changes and deletes services as the file is saved", async (t) => {
    const { up, file } = await start(t, service("one"));
    await ready(up, "one", 1);

    await writeFile(file, service("one", "plain", 2) + service("two"));
    await ready(up, "one", 2);
    await ready(up, "two", 1);
    assert.equal(up.store.get("default/one")?.metadata.generation, 2);
    await writeFile(`${file}.new`, service("two"));
    await rename(`${file}.new`, file);

    await until(() => up.store.get("default/one") === undefined);
    assert.equal((await complete(up, { model: "one" })).status, 404);
    assert.equal(up.cluster.pods().length, 1);
  });

  it("rolls a changed template over without a moment that nobody serves", async (t) => {
    const { up, file } = await start(t, service("one", "plain"));
    await ready(up, "one", 1);
    const [old] = up.cluster.pods();
    let failed = 0;
    const asking = new AbortController();
    const asks = (async () => {
      while (!asking.signal.aborted) {
        if ((await complete(up, { model: "one", max_tokens: 1 })).status !== 200) failed++;
      }
    })();

    await writeFile(file, service("one", "load=200"));
    await until(() => {
      const pods = up.cluster.pods();
      return (
        pods.length === 1 &&
        pods[0]?.replica?.ready === true &&
        pods[0].spec.name !== old?.spec.name
      );
    });
    asking.abort();
    await asks;

    assert.equal(failed, 0);
  });

  it("converges on the last of an edit every 100 ms, wrong ones between them", async (t) => {
    const { up, file, problems } = await start(t, service("one"));
    await ready(up, "one", 1);

    for (let i = 0; i < 30; i++) {
      await writeFile(file, i % 5 === 4 ? "kind: [" : service("one", "plain", 1 + (i % 3)));
      await delay(100);
    }
    await writeFile(file, service("one", "plain", 2));

    await until(() => up.store.get("default/one")?.spec.replicas === 2);
    await ready(up, "one", 2);
    await until(() => up.cluster.pods().length === 2);
    assert.ok(
      problems.some((line) => /manifest-\d+\.yaml:1: .*: correct the YAML/.test(line)),
      problems.join(),
    );
  });

  it("tells a wrong edit with line, field and remedy, and goes on as before", async (t) => {
    const { up, file, problems } = await start(t, service("one"));
    await ready(up, "one", 1);

    await writeFile(file, service("one").replace("replicas: 1", "replica: 1"));
    await until(() => problems.length > 0);

    assert.match(
      problems[0] ?? "",
      /manifest-\d+\.yaml:7: spec\.replica is not a field: did you mean "replicas"/,
    );
    assert.equal((await complete(up, { model: "one" })).status, 200);
  });

  it("refuses to start on a wrong manifest, on none, and on a port that is taken", async (t) => {
    const wrong = start(t, service("one").replace("uri", "url"));
    await assert.rejects(wrong, /manifest-\d+\.yaml:5: spec\.model/);
    const holder = createServer().listen(0, "127.0.0.1");
    await once(holder, "listening");
    t.after(() => holder.close());
    const { port } = holder.address() as { port: number };

    await assert.rejects(start(t, service("one"), port), {
      name: "UpError",
      message: `port ${port} of 127.0.0.1 is taken: end the program that has it, or choose another with --port`,
    });
  });
});

describe("a process of quire up", () => {
  it("lets answers under way come to their end on Ctrl-C, takes no new ones, and ends with 0", async (t) => {
    const { child, port, pids, output } = await startProgram(t, service("one", "token=50"));
    const stream = await post(port, { model: "one", max_tokens: 12, stream: true });

    child.kill("SIGINT");
    await until(() => output().includes("draining"));
    const late = await post(port, { model: "one" }).then(
      ({ status }) => status,
      () => "refused",
    );

    assert.match(await stream.text(), /"11 ".*\n\ndata: \[DONE\]/);
    assert.ok(late === 503 || late === "refused", String(late));
    const [code] = await once(child, "exit");
    assert.equal(code, 0);
    assert.deepEqual(pids.filter(isRunning), []);
  });

  it("ends at once on the second Ctrl-C, with 130", async (t) => {
    const { child, pids, output } = await startProgram(t, service("one", "stubborn"));

    child.kill("SIGINT");
    await until(() => output().includes("draining"));
    await delay(100);
    assert.deepEqual(pids.filter(isRunning), pids);
    child.kill("SIGINT");
    const [code] = await once(child, "exit");

    assert.equal(code, 130);
    assert.deepEqual(pids.filter(isRunning), []);
  });

  it("leaves no process and no port behind when it is killed", async (t) => {
    const { child, port, pids } = await startProgram(t, service("one", "child", 2));
    assert.equal(pids.length, 2);

    child.kill("SIGKILL");
    await once(child, "exit");

    await until(() => pids.filter(isRunning).length === 0);
    await assert.rejects(fetch(`http://127.0.0.1:${port}/v1/models`));
  });
});

let count = 0;

function service(name: string, behaviour = "plain", replicas = 1): string {
  return `apiVersion: quire.dev/v1alpha1
kind: InferenceService
metadata: { name: ${name} }
spec:
  model: { uri: "file:///models/${behaviour}" }
  resources: { gpu: { count: 0 } }
  replicas: ${replicas}
  scaling: { mode: Static }
---
`;
}

async function writeManifest(text: string): Promise<string> {
  const file = join(folder, `manifest-${count++}.yaml`);
  await writeFile(file, text);
  return file;
}

async function start(t: TestContext, manifest: string, onPort?: number) {
  const file = await writeManifest(manifest);
  const problems: string[] = [];
  const errors: unknown[] = [];
  const port = onPort ?? (await freePort());
  const env = { XDG_CACHE_HOME: join(folder, `cache-${count}`) };
  const up = await Up.start({
    file,
    host: "127.0.0.1",
    port,
    env,
    gpus: [],
    program: {
      program: process.execPath,
      args: [join(import.meta.dirname, "fake-engine.ts")],
      env: {},
    },
    timing: {
      ...defaultReplicaTiming,
      backoff: { firstMs: 50, maxMs: 500, resetAfterMs: 60_000 },
      probeIntervalMs: 25,
    },
    listener: {
      onListening: () => {},
      onEvent: () => {},
      onApplied: () => {},
      onProblems: (lines) => problems.push(...lines),
      onError: (_, error) => errors.push(error),
    },
  });
  t.after(async () => {
    up.kill();
    await up.drain();
    assert.deepEqual(errors, []);
  });
  return { up, file, port, env, problems };
}

async function startProgram(t: TestContext, manifest: string) {
  const file = await writeManifest(manifest);
  const port = await freePort();
  const program = join(import.meta.dirname, "fake-up.ts");
  const child = spawn(
    process.execPath,
    [program, file, String(port), join(folder, `cache-${count}`)],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  t.after(() => child.kill("SIGKILL"));
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => {
    text += chunk.toString("utf8");
  });
  await until(() => /^Serving: /m.test(text));
  const list = await fetch(`http://127.0.0.1:${port}/api/v1/pods`);
  const { items } = (await list.json()) as { items: { status: { pid: number } }[] };
  return { child, port, pids: items.map(({ status }) => status.pid), output: () => text };
}

function statusOf(up: Up, name: string): InferenceService["status"] {
  return up.store.get(`default/${name}`)?.status;
}

function ready(up: Up, name: string, replicas: number): Promise<void> {
  return until(() => statusOf(up, name)?.readyReplicas === replicas);
}

function complete(up: Up, body: object): Promise<Response> {
  return post(Number(new URL(up.address).port), body);
}

function post(port: number, body: object): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}/v1/completions`, {
    method: "POST",
    body: JSON.stringify(body),
  });
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, "ESRCH");
    return false;
  }
}

async function until(condition: () => boolean): Promise<void> {
  const endMs = Date.now() + 20_000;
  while (!condition()) {
    assert.ok(Date.now() < endMs, String(condition));
    await delay(10);
  }
}
