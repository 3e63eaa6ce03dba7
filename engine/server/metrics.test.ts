import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { engineMetrics } from "../contract.ts";
import { aServer, type TestServer } from "./test-server.ts";

const vllmLabels = 'model_name="echo",engine="0"';

describe("GET /metrics", () => {
  it("shows what the autoscaler reads, without labels", async () => {
    const server = await aServer();
    await complete(server, { prompt: "ab" });

    const lines = await scrape(server);

    const expected: Record<keyof typeof engineMetrics, number> = {
      kvTokensInUse: 400,
      kvTokensTotal: 1600,
      runningRequests: 0,
      waitingRequests: 3,
      waitingPromptTokens: 500,
      receivedRequests: 1,
      steps: 7,
      prefillTokensPerSecond: 100,
      decodeTokensPerSecond: 50,
      draining: 0,
    };
    for (const [key, name] of Object.entries(engineMetrics)) {
      assert.equal(lines.get(name), expected[key as keyof typeof engineMetrics], name);
    }
  });

  it("shows the names that endpoint pickers, autoscalers and watchdogs read of vLLM", async () => {
    const server = await aServer();

    const lines = await scrape(server);

    const expected = {
      num_requests_waiting: 3,
      num_requests_running: 0,
      num_requests_swapped: 0,
      kv_cache_usage_perc: 0.25,
      gpu_cache_usage_perc: 0.25,
      prefix_cache_queries_total: 90,
      prefix_cache_hits_total: 30,
      gpu_prefix_cache_queries_total: 90,
      gpu_prefix_cache_hits_total: 30,
      num_preemptions_total: 2,
      prompt_tokens_total: 120,
      generation_tokens_total: 80,
      iteration_tokens_total_count: 7,
      iteration_tokens_total_sum: 200,
      request_prompt_tokens_sum: 0,
      request_generation_tokens_sum: 0,
      time_to_first_token_seconds_sum: 0,
      time_per_output_token_seconds_sum: 0,
      inter_token_latency_seconds_sum: 0,
      e2e_request_latency_seconds_sum: 0,
    };
    for (const [name, value] of Object.entries(expected)) {
      assert.equal(lines.get(`vllm:${name}{${vllmLabels}}`), value, name);
    }
    const config = `vllm:cache_config_info{block_size="16",num_gpu_blocks="100",${vllmLabels}}`;
    assert.equal(lines.get(config), 1);
    assert.ok(
      [...lines.keys()].some((line) => line.startsWith("vllm:lora_requests_info{max_lora=")),
    );
    assert.equal(lines.get(`vllm:request_success_total{finished_reason="stop",${vllmLabels}}`), 0);
  });

  it("observes requests and their tokens", async () => {
    const server = await aServer();
    await complete(server, { prompt: "abc" });
    await complete(server, { prompt: "ab", max_tokens: 2 });

    const lines = await scrape(server);

    const at = (name: string, labels = "") => lines.get(`vllm:${name}{${labels}${vllmLabels}}`);
    assert.equal(at("request_success_total", 'finished_reason="stop",'), 1);
    assert.equal(at("request_success_total", 'finished_reason="length",'), 1);
    assert.equal(lines.get('quire_requests_finished_total{finished_reason="length"}'), 1);
    assert.equal(at("request_prompt_tokens_sum"), 5);
    assert.equal(at("request_prompt_tokens_bucket", 'le="2",'), 1);
    assert.equal(at("request_prompt_tokens_bucket", 'le="5",'), 2);
    assert.equal(at("request_prompt_tokens_bucket", 'le="+Inf",'), 2);
    assert.equal(at("request_generation_tokens_sum"), 4 + 2);
    assert.equal(at("time_to_first_token_seconds_count"), 2);
    assert.equal(at("inter_token_latency_seconds_count"), 3 + 1);
    assert.equal(at("e2e_request_latency_seconds_count"), 2);
    assert.equal(lines.get("quire_time_to_first_token_seconds_count"), 2);
    assert.ok(lines.has('quire_inter_token_latency_seconds_bucket{le="0.001"}'));
  });

  it("counts refusals by code", async () => {
    const server = await aServer();
    await complete(server, { prompt: "" });
    await complete(server, { prompt: "a", nonsense: 1 });

    const lines = await scrape(server);

    assert.equal(lines.get('quire_requests_refused_total{code="request_invalid"}'), 1);
    assert.equal(lines.get('quire_requests_refused_total{code="unsupported_field"}'), 1);
  });

  it("says when it drains", async () => {
    const server = await aServer();
    server.lifecycle.beginDrain();

    assert.equal((await scrape(server)).get(engineMetrics.draining), 1);
  });
});

function complete({ app }: TestServer, payload: object) {
  return app.inject({ method: "POST", url: "/v1/completions", payload });
}

/** Values by name and labels, as written. */
async function scrape({ app }: TestServer): Promise<Map<string, number>> {
  const answer = await app.inject("/metrics");
  assert.match(String(answer.headers["content-type"]), /^text\/plain; version=0\.0\.4/);
  const lines = answer.body.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.split(" ").at(-1))]),
  );
}
