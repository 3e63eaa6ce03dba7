import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { bench } from "./bench.ts";
import { complete, type RequestRecord } from "./client.ts";
import { runLoad } from "./run-load.ts";
import { distribution, summarize } from "./summary.ts";
import { arrivalTimes, workload } from "./workload.ts";

const lengths = {
  requestCount: 400,
  inputLength: 30,
  outputLength: 5,
  prefixCount: 3,
  prefixLength: 20,
  seed: 1,
};

describe("workload", () => {
  it("repeats itself for a seed and differs for another", () => {
    assert.deepEqual(workload("sharegpt", lengths), workload("sharegpt", lengths));
    assert.notDeepEqual(
      workload("sharegpt", lengths),
      workload("sharegpt", { ...lengths, seed: 2 }),
    );
  });

  it("meets the published means of ShareGPT samples within a tenth", () => {
    const requests = workload("sharegpt", { ...lengths, requestCount: 20_000 });
    const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

    assert.ok(Math.abs(mean(requests.map((r) => r.promptWords)) - 221) < 22);
    assert.ok(Math.abs(mean(requests.map((r) => r.maxTokens)) - 186) < 19);
    assert.ok(requests.every((r) => r.promptWords + r.maxTokens <= 2_048));
  });

  it("shares each of its prefixes among many prompts", () => {
    const requests = workload("shared-prefix", lengths);
    const prefixes = new Set(requests.map((r) => r.prompt.split(" ").slice(0, 20).join(" ")));

    assert.equal(prefixes.size, 3);
    assert.equal(new Set(requests.map((r) => r.prompt)).size, 400);
  });

  it("sends the long prompts of an interference at their own times", () => {
    const requests = workload("interference", { ...lengths, requestCount: 2 });

    assert.equal(requests.filter((r) => r.group === "victim" && r.atMs === 0).length, 32);
    assert.deepEqual(
      requests.filter((r) => r.group === "intruder").map((r) => r.atMs),
      [5_000, 10_000],
    );
  });
});

describe("arrivalTimes", () => {
  it("ends at count over rate, and is burstier for a smaller shape", () => {
    const deviation = (shape: number) => {
      const times = arrivalTimes(2_000, 10, shape, 3);
      assert.ok(Math.abs((times.at(-1) ?? 0) - 200_000) < 1e-3);
      const gaps = times.slice(1).map((at, i) => at - (times[i] ?? 0));
      return Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - 100) ** 2, 0) / gaps.length) / 100;
    };

    assert.ok(Math.abs(deviation(1) - 1) < 0.15);
    assert.ok(Math.abs(deviation(0.25) - 2) < 0.4);
  });
});

describe("summarize", () => {
  const record = (overrides: Partial<RequestRecord>): RequestRecord => ({
    group: "g",
    sentMs: 1_000,
    doneMs: 1_400,
    eventMs: [1_100, 1_200, 1_400],
    promptTokens: 10,
    cachedTokens: 4,
    outputTokens: 3,
    requestedTokens: 3,
    error: undefined,
    ...overrides,
  });

  it("follows the definitions of vLLM's benchmark", () => {
    const summary = summarize([record({}), record({ sentMs: 1_050, doneMs: 2_000 })], undefined);

    assert.equal(summary.wallSeconds, 1);
    assert.equal(summary.outputTokensPerSecond, 6);
    assert.equal(summary.totalTokensPerSecond, 26);
    assert.deepEqual([summary.ttftMs.mean, summary.itlMs.mean], [75, 150]);
    assert.equal(summary.tpotMs.mean, (150 + 450) / 2);
    assert.equal(summary.tokensPerEvent, 1);
    assert.equal(summary.cachedTokens, 8);
  });

  it("counts failures and answers of another length, and measures neither's tokens twice", () => {
    const failed = record({ error: "cut", eventMs: [], outputTokens: 0 });
    const short = record({ outputTokens: 2, eventMs: [1_100, 1_200] });

    const summary = summarize([record({}), failed, short], undefined);

    assert.deepEqual([summary.completed, summary.failed, summary.wrongLength], [2, 1, 1]);
    assert.equal(summary.outputTokens, 5);
  });

  it("counts a request as good only within both limits, out of all that were sent", () => {
    const failed = record({ error: "cut" });
    const good = (ttftMs: number, tpotMs: number) =>
      summarize([record({}), failed], { ttftMs, tpotMs }).goodput;

    assert.deepEqual([good(100, 150), good(99, 150), good(100, 149)], [0.5, 0, 0]);
  });

  it("interpolates percentiles", () => {
    const { p50, p90, max, mean } = distribution([10, 20, 30, 40]);

    assert.deepEqual([p50, p90, max, mean], [25, 37, 40, 25]);
    assert.equal(distribution([]).p99, 0);
  });
});

describe("runLoad", () => {
  it("keeps as many requests in flight as it may, and no more", async () => {
    let inFlight = 0;
    let most = 0;
    const requests = workload("random", { ...lengths, requestCount: 20 });
    const send = async (): Promise<RequestRecord> => {
      most = Math.max(most, ++inFlight);
      await sleep(2);
      inFlight -= 1;
      return { error: undefined } as RequestRecord;
    };

    const records = await runLoad(
      { requests, concurrency: 4, arrivalsMs: undefined },
      send,
      () => {},
    );

    assert.equal(records.length, 20);
    assert.equal(most, 4);
  });

  it("sends an open loop at its times whatever is in flight", async () => {
    const requests = workload("random", { ...lengths, requestCount: 3 });
    const sent: number[] = [];
    const startMs = performance.now();
    const send = async (): Promise<RequestRecord> => {
      sent.push(performance.now() - startMs);
      await sleep(100);
      return { error: undefined } as RequestRecord;
    };

    await runLoad({ requests, concurrency: 1, arrivalsMs: [0, 20, 40] }, send, () => {});

    assert.ok(
      sent.every((at, i) => at >= 20 * i - 3 && at < 20 * i + 80),
      String(sent),
    );
  });
});

describe("quire bench", () => {
  let server: Server;
  let url: string;
  let folder: string;
  let behaviour: "answer" | "cut" | "refuse" = "answer";

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "quire-bench-"));
    server = createServer((request, response) => {
      if (request.url === "/v1/models") {
        response.end(JSON.stringify({ data: [{ id: "m" }] }));
        return;
      }
      let body = "";
      request.on("data", (chunk) => {
        body += chunk;
      });
      request.on("end", () => answer(response, JSON.parse(body).max_tokens as number));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  });

  after(async () => {
    server.closeAllConnections();
    server.close();
    await rm(folder, { recursive: true });
  });

  function answer(response: ServerResponse, tokens: number): void {
    if (behaviour === "refuse") {
      response.writeHead(429).end('{"error":{"message":"full"}}');
      return;
    }
    for (let i = 0; i < tokens; i++) response.write('data: {"choices":[{"text":" x"}]}\n\n');
    if (behaviour === "cut") {
      response.destroy();
      return;
    }
    const usage = { prompt_tokens: 7, completion_tokens: tokens };
    response.end(`data: ${JSON.stringify({ choices: [], usage })}\n\ndata: [DONE]\n\n`);
  }

  it("measures, and writes figures and a plot", async () => {
    const [json, svg] = [join(folder, "out.json"), join(folder, "out.svg")];
    const args = ["--url", url, "--requests", "12", "--workload", "random", "--output-length", "6"];

    const code = await bench([...args, "--json", json, "--svg", svg], undefined);

    const { summaries } = JSON.parse(await readFile(json, "utf8"));
    assert.equal(code, 0);
    assert.deepEqual(
      [summaries.random.completed, summaries.random.outputTokens, summaries.random.wrongLength],
      [12, 72, 0],
    );
    assert.match(await readFile(svg, "utf8"), /^<svg[\s\S]*polyline[\s\S]*<\/svg>\n$/);
  });

  it("fails when a request is refused or cut, and says why", async () => {
    const target = { url: new URL(url), model: "m", apiKey: undefined, ignoreEos: false };
    const [request] = workload("random", { ...lengths, requestCount: 1 });
    assert.ok(request);

    behaviour = "refuse";
    const refused = await complete({ ...target, timeoutMs: 5_000 }, request);
    behaviour = "cut";
    const cut = await complete({ ...target, timeoutMs: 5_000 }, request);
    behaviour = "answer";

    assert.match(refused.error ?? "", /HTTP 429: .*full/);
    assert.ok(cut.error !== undefined && cut.outputTokens === 0);
  });

  it("ends with 1 where no endpoint answers", async () => {
    assert.equal(await bench(["--url", "http://127.0.0.1:1/v1"], undefined), 1);
  });

  it("fails when its warm-up is refused", async () => {
    behaviour = "refuse";
    const code = await bench(["--url", url], undefined);
    behaviour = "answer";

    assert.equal(code, 1);
  });
});
