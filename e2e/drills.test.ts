import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { seededRandom } from "../engine/bench/workload.ts";
import { until } from "./program.ts";
import { Serving } from "./serving.ts";

/** Small enough that requests queue, share steps and are preempted. */
const tight = ["--max-num-seqs", "16", "--block-size", "16", "--block-count", "60"];

interface Job {
  readonly body: Readonly<Record<string, unknown>>;
  readonly streamed: boolean;
  /** Characters of the answer after which the client hangs up; unset stays to the end. */
  readonly leavesAfter: number | undefined;
}

describe("quire serve under trouble", () => {
  it("answers 200 mixed requests like each alone while a third of the clients leave", async () => {
    await using serving = await Serving.start(tight);
    const random = seededRandom(20_26);
    const jobs = Array.from({ length: 200 }, () => aJob(random));

    const texts = await Promise.all(jobs.map((job) => perform(serving, job)));
    await quiet(serving);

    const finished = jobs.flatMap((job, index) => (job.leavesAfter === undefined ? [index] : []));
    assert.ok(finished.length >= 120 && finished.length <= 160, `${finished.length} stayed`);
    for (const index of finished) {
      const alone = await serving.complete({ ...jobs[index]?.body, cache_salt: `alone-${index}` });
      assert.equal(texts[index], alone, `request ${index}: ${JSON.stringify(jobs[index]?.body)}`);
    }
    await quiet(serving);
    assert.ok((await serving.metric("quire_preemptions_total")) > 0, "nothing was preempted");
  });

  it("refuses beyond its queue with 429 and Retry-After, and serves on", async () => {
    await using serving = await Serving.start([
      ...["--max-num-seqs", "1"],
      ...["--max-waiting-requests", "4"],
    ]);
    const body = { model: "tiny", prompt: "a", max_tokens: 200, ignore_eos: true };

    const responses = await Promise.all(
      Array.from({ length: 40 }, () => serving.post("/v1/completions", body)),
    );

    const refused = responses.filter((response) => response.status === 429);
    const served = responses.filter((response) => response.status === 200);
    assert.equal(refused.length + served.length, 40);
    assert.ok(refused.length >= 20 && served.length >= 5, `${served.length} served`);
    for (const response of refused) {
      assert.ok(Number(response.headers.get("retry-after")) >= 1);
      assert.match(JSON.stringify(await response.json()), /queue/i);
    }
    assert.ok((await serving.complete({ prompt: "a", max_tokens: 2 })) !== undefined);
  });

  it("finishes what it took before SIGTERM, refuses what is new, and exits with 0", async () => {
    await using serving = await Serving.start(["--max-num-seqs", "2"]);
    const body = { model: "tiny", prompt: "count", max_tokens: 200, ignore_eos: true };
    const taken = Array.from({ length: 40 }, () => serving.post("/v1/completions", body));
    await until("all are taken", 10_000, async () => {
      return (await serving.metric("quire_requests_received_total")) === 40;
    });

    serving.program.signal("SIGTERM");
    await until("readiness is withdrawn", 5_000, async () => {
      const ready = await fetch(`${serving.root}/health/ready`).catch(() => undefined);
      return ready === undefined || ready.status === 503;
    });
    const late = await serving.post("/v1/completions", body).catch(() => undefined);

    for (const response of await Promise.all(taken)) {
      assert.equal(response.status, 200);
      const json = (await response.json()) as { usage: { completion_tokens: number } };
      assert.equal(json.usage.completion_tokens, 200);
    }
    // Once the last answer is out the port is closed: both are a refusal.
    if (late !== undefined) assert.equal(late.status, 503);
    assert.deepEqual(await serving.program.exited, { code: 0, signal: null });
  });

  it("gives 63 fast readers their answers while one reads nothing", async () => {
    await using serving = await Serving.start([
      ...["--max-num-seqs", "128"],
      ...["--max-stream-buffer-bytes", "65536"],
    ]);
    const body = { model: "tiny", prompt: "go", max_tokens: 200, ignore_eos: true, stream: true };
    // 64 choices of 200 tokens: more than the sockets and the buffer hold together.
    const slow = openAndStall(serving, JSON.stringify({ ...body, n: 64 }));

    const fast = await Promise.all(
      Array.from({ length: 63 }, async () => {
        const response = await serving.post("/v1/completions", body);
        return (await response.text()).trimEnd().endsWith("data: [DONE]");
      }),
    );

    assert.ok(fast.every(Boolean));
    await quiet(serving);
    slow.destroy();
  });

  it("survives 1,000 bad bodies and answers a good one after every ten", async () => {
    await using serving = await Serving.start();
    const random = seededRandom(7);

    for (let i = 0; i < 1_000; i++) {
      const path = random() < 0.5 ? "/v1/completions" : "/v1/chat/completions";
      const body = badBody(random);
      const response = await serving.post(path, body);
      const text = await response.text();
      assert.ok(response.status < 500, `HTTP ${response.status} for ${body.slice(0, 200)}`);
      if (response.status >= 400) assert.match(text, /^\{"error":\{"message":/, body);
      if (i % 10 === 9) await serving.complete({ prompt: "good", max_tokens: 1 });
    }
    await quiet(serving);
  });

  it("ends a request whose client leaves before the answer begins", async () => {
    await using serving = await Serving.start(["--max-num-seqs", "1"]);
    const long = { model: "tiny", prompt: "a", max_tokens: 250, ignore_eos: true, n: 64 };
    const gone = new AbortController();
    const lost = serving.post("/v1/completions", long, { signal: gone.signal }).catch(() => {});
    await until("it runs", 10_000, async () => {
      return (await serving.metric("quire_requests_running")) === 1;
    });

    gone.abort();
    await lost;

    await quiet(serving);
  });
});

/** Waits until no request holds blocks: whatever is left over is a leak. */
async function quiet(serving: Serving): Promise<void> {
  await until("no request runs or waits and no block is held", 20_000, async () => {
    const names = ["quire_requests_running", "quire_requests_waiting", "quire_kv_tokens_in_use"];
    const values = await Promise.all(names.map((name) => serving.metric(name)));
    return values.every((value) => value === 0);
  });
}

function aJob(random: () => number): Job {
  const length = 1 + Math.floor(random() * 60);
  const sampled = random() < 0.5;
  return {
    body: {
      prompt: Array.from({ length }, () => "abcdefgh"[Math.floor(random() * 8)]).join(" "),
      max_tokens: 1 + Math.floor(random() * 80),
      ...(sampled
        ? { temperature: 0.9, top_p: 0.9, seed: Math.floor(random() * 1e9) }
        : { temperature: 0 }),
    },
    streamed: random() < 0.5,
    leavesAfter: random() < 0.3 ? Math.floor(random() * 40) : undefined,
  };
}

/** The answer's text; empty for a client that left. */
async function perform(serving: Serving, job: Job): Promise<string> {
  await sleep(0);
  if (job.leavesAfter === undefined && !job.streamed) return serving.complete(job.body);
  const leave = new AbortController();
  const body = { model: "tiny", stream: true, ...job.body };
  let text = "";
  try {
    const response = await serving.post("/v1/completions", body, { signal: leave.signal });
    assert.equal(response.status, 200);
    if (job.leavesAfter === 0) leave.abort();
    let pending = "";
    for await (const chunk of response.body ?? []) {
      const lines = (pending + Buffer.from(chunk).toString()).split("\n");
      pending = lines.pop() ?? "";
      for (const line of lines) text += textOf(line);
      if (job.leavesAfter !== undefined && text.length > job.leavesAfter) leave.abort();
    }
  } catch (error) {
    if (!leave.signal.aborted) throw error;
  }
  return text;
}

function textOf(line: string): string {
  if (!line.startsWith("data: {")) return "";
  const event = JSON.parse(line.slice("data: ".length)) as { choices: { text: string }[] };
  return event.choices[0]?.text ?? "";
}

/** Sends a request and never reads a byte of its answer. */
function openAndStall(serving: Serving, body: string) {
  const { hostname, port } = new URL(serving.root);
  const socket = connect(Number(port), hostname);
  socket.pause();
  socket.on("error", () => {});
  const head = `POST /v1/completions HTTP/1.1\r\nhost: ${hostname}\r\ncontent-type: application/json\r\n`;
  socket.write(`${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  return socket;
}

const oddValues = [
  "null",
  "true",
  "-1",
  "1e999",
  "-1e999",
  "9007199254740993",
  "1e308",
  "NaN",
  '""',
  '"\\ud800"',
  "[]",
  "{}",
  "[[[[[[[[]]]]]]]]",
  '{"__proto__":{"a":1}}',
  '[1,-5,"x"]',
  "[4294967296]",
  "0.5",
  '"a"',
];
const fields = [
  ...["model", "prompt", "messages", "max_tokens", "temperature", "top_p", "top_k", "min_p", "n"],
  ...["stop", "seed", "logprobs", "top_logprobs", "logit_bias", "stream", "stream_options", "echo"],
  ...["presence_penalty", "repetition_penalty", "stop_token_ids", "min_tokens", "ignore_eos"],
  ...["tools", "response_format", "priority", "cache_salt", "user", "no_such_field", "best_of"],
];

/** A good body with some fields made odd, cut short, or not JSON at all. */
function badBody(random: () => number): string {
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  const good =
    '"model":"tiny","max_tokens":2,"prompt":"x","messages":[{"role":"user","content":"x"}]';
  const odd = Array.from({ length: 1 + Math.floor(random() * 3) }, () => {
    return `"${pick(fields)}":${pick(oddValues)}`;
  });
  const body = `{${good},${odd.join(",")}}`;
  if (random() < 0.15) return body.slice(0, Math.floor(random() * body.length));
  if (random() < 0.05) return pick(oddValues);
  return body;
}

// A connection that is cut in the middle of its body must not hurt anyone else either.
describe("half a request", () => {
  it("leaves the server serving", async () => {
    await using serving = await Serving.start();
    for (let i = 0; i < 20; i++) {
      const outgoing = httpRequest(`${serving.url}/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", "content-length": 1_000 },
      });
      outgoing.on("error", () => {});
      outgoing.write('{"model":"tiny"');
      await sleep(5);
      outgoing.destroy();
    }

    assert.ok((await serving.complete({ prompt: "a", max_tokens: 1 })) !== undefined);
  });
});
