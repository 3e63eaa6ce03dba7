import { Counter, Gauge, Registry } from "prom-client";
import { engineMetrics } from "../contract.ts";
import type { EngineStats } from "../generation.ts";
import {
  Distribution,
  type DistributionView,
  registerHistogram,
  registerReading,
} from "./metric-values.ts";
import { RequestTimer } from "./request-timer.ts";

/** What the metrics read when they are scraped. */
export interface MetricsSource {
  /** undefined before the model is loaded */
  stats(): EngineStats | undefined;
  draining(): boolean;
  modelName(): string | undefined;
}

const ttftBounds = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
  160, 640, 2560,
];
/** vLLM's, with finer ones below 10 ms: a GPU decodes a token of an 8B model in 4 to 8 ms. */
const itlBounds = [
  0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
  0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
const durationBounds = [
  0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
];
const tokenBounds = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000,
  500_000, 1_000_000,
];
const choiceBounds = [1, 2, 5, 10, 20, 50, 100];

type Reading = readonly ["counter" | "gauge", string, string, (stats: EngineStats) => number];

const heldTokens = (stats: EngineStats) => stats.heldBlockCount * stats.blockSize;
const utilization = (stats: EngineStats) =>
  stats.blockCount === 0 ? 0 : stats.heldBlockCount / stats.blockCount;

const quireReadings: readonly Reading[] = [
  [
    "gauge",
    engineMetrics.kvTokensInUse,
    "KV-cache tokens of blocks that running requests hold.",
    heldTokens,
  ],
  [
    "gauge",
    engineMetrics.kvTokensTotal,
    "KV-cache tokens that there is room for.",
    (s) => s.blockCount * s.blockSize,
  ],
  ["gauge", engineMetrics.runningRequests, "Requests that hold blocks.", (s) => s.runningCount],
  ["gauge", engineMetrics.waitingRequests, "Requests that wait for blocks.", (s) => s.waitingCount],
  [
    "gauge",
    engineMetrics.waitingPromptTokens,
    "Uncached prompt tokens of waiting requests.",
    (s) => s.waitingPromptTokens,
  ],
  ["counter", engineMetrics.steps, "Steps finished.", (s) => s.stepCount],
  [
    "gauge",
    engineMetrics.prefillTokensPerSecond,
    "Prefill rate, exponentially weighted.",
    (s) => s.prefillTokensPerSecond,
  ],
  [
    "gauge",
    engineMetrics.decodeTokensPerSecond,
    "Decode rate, exponentially weighted.",
    (s) => s.decodeTokensPerSecond,
  ],
  ["gauge", "quire_kv_blocks_free", "KV-cache blocks that hold nothing.", (s) => s.freeBlockCount],
  [
    "gauge",
    "quire_kv_blocks_cached",
    "Reclaimable blocks that the prefix cache keeps.",
    (s) => s.cachedBlockCount,
  ],
  ["gauge", "quire_steps_in_flight", "Steps submitted and not finished.", (s) => s.stepsInFlight],
  [
    "counter",
    "quire_step_seconds_total",
    "Time that the device spent on steps.",
    (s) => s.stepMs / 1000,
  ],
  ["counter", "quire_batched_tokens_total", "Tokens of all steps.", (s) => s.batchedTokens],
  [
    "counter",
    "quire_preemptions_total",
    "Running requests that lost their blocks.",
    (s) => s.preemptionCount,
  ],
  [
    "counter",
    "quire_prefix_cache_query_tokens_total",
    "Prompt tokens looked up in the prefix cache.",
    (s) => s.prefixQueryTokens,
  ],
  [
    "counter",
    "quire_prefix_cache_hit_tokens_total",
    "Prompt tokens found in the prefix cache.",
    (s) => s.prefixHitTokens,
  ],
  [
    "counter",
    "quire_prompt_tokens_total",
    "Prompt tokens of admitted requests.",
    (s) => s.promptTokens,
  ],
  ["counter", "quire_generated_tokens_total", "Tokens generated.", (s) => s.generatedTokens],
];

/** Names that endpoint pickers, autoscalers and dashboards written for vLLM read, older ones too. */
const vllmReadings: readonly Reading[] = [
  ["gauge", "vllm:num_requests_running", "Running requests.", (s) => s.runningCount],
  ["gauge", "vllm:num_requests_waiting", "Waiting requests.", (s) => s.waitingCount],
  ["gauge", "vllm:num_requests_swapped", "Always 0: preempted requests are recomputed.", () => 0],
  [
    "gauge",
    "vllm:kv_cache_usage_perc",
    "Share of KV blocks that requests hold, 0 to 1.",
    utilization,
  ],
  ["gauge", "vllm:gpu_cache_usage_perc", "Older name of vllm:kv_cache_usage_perc.", utilization],
  [
    "counter",
    "vllm:prefix_cache_queries_total",
    "Prompt tokens looked up.",
    (s) => s.prefixQueryTokens,
  ],
  ["counter", "vllm:prefix_cache_hits_total", "Prompt tokens found.", (s) => s.prefixHitTokens],
  [
    "counter",
    "vllm:gpu_prefix_cache_queries_total",
    "Older name of vllm:prefix_cache_queries_total.",
    (s) => s.prefixQueryTokens,
  ],
  [
    "counter",
    "vllm:gpu_prefix_cache_hits_total",
    "Older name of vllm:prefix_cache_hits_total.",
    (s) => s.prefixHitTokens,
  ],
  ["counter", "vllm:num_preemptions_total", "Preemptions.", (s) => s.preemptionCount],
  ["counter", "vllm:prompt_tokens_total", "Prompt tokens.", (s) => s.promptTokens],
  ["counter", "vllm:generation_tokens_total", "Generated tokens.", (s) => s.generatedTokens],
];

/** Every metric of the engine: `quire_*` without labels, `vllm:*` with vLLM's labels. */
export class EngineMetrics {
  readonly #source: MetricsSource;
  readonly #quire = new Registry();
  readonly #vllm = new Registry();
  readonly #received: Counter;
  readonly #refused: Counter;
  readonly #slowReaders: Counter;
  readonly #finished: readonly [Counter, Counter];
  readonly #ttft = new Distribution(ttftBounds);
  readonly #itl = new Distribution(itlBounds);
  readonly #duration = new Distribution(durationBounds);
  readonly #decodeTime = new Distribution(durationBounds);
  readonly #meanItl = new Distribution(itlBounds);
  readonly #promptTokens = new Distribution(tokenBounds);
  readonly #generatedTokens = new Distribution(tokenBounds);
  readonly #maxTokens = new Distribution(tokenBounds);
  readonly #choices = new Distribution(choiceBounds);

  constructor(source: MetricsSource) {
    this.#source = source;
    const registers = [this.#quire];
    this.#received = new Counter({
      name: engineMetrics.receivedRequests,
      help: "Requests to generate, those that were refused included.",
      registers,
    });
    this.#refused = new Counter({
      name: "quire_requests_refused_total",
      help: "Requests answered with an error, by its code.",
      labelNames: ["code"],
      registers,
    });
    this.#slowReaders = new Counter({
      name: "quire_slow_readers_aborted_total",
      help: "Streams aborted because their reader left too much unread.",
      registers,
    });
    const labelNames = ["finished_reason"];
    this.#finished = [
      new Counter({
        name: "quire_requests_finished_total",
        help: "Generations that ended, by reason.",
        labelNames,
        registers,
      }),
      new Counter({
        name: "vllm:request_success_total",
        help: "Generations that ended, by reason.",
        labelNames,
        registers: [this.#vllm],
      }),
    ];
    for (const reason of ["stop", "length", "abort", "error"]) this.#countFinished(reason, 0);
    this.#registerReadings();
    this.#registerHistograms();
    this.#registerInfo();
  }

  /** A request to generate arrived; its validity is not known yet. */
  received(): void {
    this.#received.inc();
  }

  /** @param code an error body's code: a closed set */
  refused(code: string): void {
    this.#refused.inc({ code });
  }

  slowReaderAborted(): void {
    this.#slowReaders.inc();
  }

  /** A generation was admitted by the engine. */
  begin(promptTokens: number, maxTokens: number, choiceCount: number): RequestTimer {
    this.#promptTokens.observe(promptTokens);
    this.#maxTokens.observe(maxTokens);
    this.#choices.observe(choiceCount);
    return new RequestTimer({
      firstToken: (seconds) => this.#ttft.observe(seconds),
      nextTokens: (seconds, count) => this.#itl.observe(seconds, count),
      finish: (reason, seconds, decodeSeconds, tokenCount) => {
        this.#countFinished(reason, 1);
        this.#duration.observe(seconds);
        this.#decodeTime.observe(decodeSeconds);
        this.#generatedTokens.observe(tokenCount);
        if (tokenCount > 1) this.#meanItl.observe(decodeSeconds / (tokenCount - 1));
      },
    });
  }

  get contentType(): string {
    return this.#quire.contentType;
  }

  /** Prometheus text. */
  async render(): Promise<string> {
    this.#vllm.setDefaultLabels({ model_name: this.#source.modelName() ?? "", engine: "0" });
    return (await Promise.all([this.#quire.metrics(), this.#vllm.metrics()])).join("\n");
  }

  /** Name, type and help of every metric, for the reference page. */
  async describe(): Promise<readonly { name: string; type: string; help: string }[]> {
    const text = await this.render();
    const helps = text.matchAll(/^# HELP (\S+) (.*)\n# TYPE \S+ (\S+)$/gm);
    return [...helps].map(([, name = "", help = "", type = ""]) => ({ name, type, help }));
  }

  #countFinished(reason: string, count: number): void {
    for (const counter of this.#finished) counter.inc({ finished_reason: reason }, count);
  }

  #registerReadings(): void {
    const tables = [
      [this.#quire, quireReadings],
      [this.#vllm, vllmReadings],
    ] as const;
    for (const [registry, readings] of tables) {
      for (const [type, name, help, read] of readings) {
        registerReading(registry, type, name, help, () => {
          const stats = this.#source.stats();
          return stats === undefined ? undefined : read(stats);
        });
      }
    }
    registerReading(
      this.#quire,
      "gauge",
      engineMetrics.draining,
      "1 while the server finishes its requests before it exits.",
      () => (this.#source.draining() ? 1 : 0),
    );
  }

  #registerHistograms(): void {
    const shown: readonly (readonly [Distribution, string, ...string[]])[] = [
      [
        this.#ttft,
        "Time from a request's arrival to its first token.",
        "quire_time_to_first_token_seconds",
        "vllm:time_to_first_token_seconds",
      ],
      [
        this.#itl,
        "Time between tokens.",
        "quire_inter_token_latency_seconds",
        "vllm:inter_token_latency_seconds",
        "vllm:time_per_output_token_seconds",
      ],
      [
        this.#duration,
        "Time from a request's arrival to its end.",
        "quire_request_duration_seconds",
        "vllm:e2e_request_latency_seconds",
      ],
      [
        this.#decodeTime,
        "Time from a request's first token to its last.",
        "vllm:request_decode_time_seconds",
      ],
      [
        this.#meanItl,
        "Mean time between a request's tokens.",
        "vllm:request_time_per_output_token_seconds",
      ],
      [this.#promptTokens, "Prompt tokens of a request.", "vllm:request_prompt_tokens"],
      [this.#generatedTokens, "Tokens generated for a request.", "vllm:request_generation_tokens"],
      [
        this.#maxTokens,
        "Tokens that a request may generate.",
        "vllm:request_params_max_tokens",
        "vllm:request_max_num_generation_tokens",
      ],
      [this.#choices, "Choices that a request asks for.", "vllm:request_params_n"],
    ];
    for (const [distribution, help, ...names] of shown) {
      for (const name of names) {
        const registry = name.startsWith("vllm:") ? this.#vllm : this.#quire;
        registerHistogram(registry, name, help, () => distribution);
      }
    }
    registerHistogram(
      this.#vllm,
      "vllm:iteration_tokens_total",
      "Tokens of a step; its count is the number of steps.",
      () => stepView(this.#source.stats()),
    );
  }

  #registerInfo(): void {
    const source = this.#source;
    new Gauge({
      name: "vllm:cache_config_info",
      help: "Size and number of KV blocks.",
      labelNames: ["block_size", "num_gpu_blocks"],
      registers: [this.#vllm],
      collect() {
        this.reset();
        const stats = source.stats();
        if (stats === undefined) return;
        const { blockSize, blockCount } = stats;
        this.set({ block_size: blockSize, num_gpu_blocks: blockCount }, 1);
      },
    });
    new Gauge({
      name: "vllm:lora_requests_info",
      help: "Adapters in use: none.",
      labelNames: ["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
      registers: [this.#vllm],
    }).set({ max_lora: 0, running_lora_adapters: "", waiting_lora_adapters: "" }, 0);
  }
}

/** Steps are counted and summed by the engine, which keeps no buckets of them. */
function stepView(stats: EngineStats | undefined): DistributionView {
  return {
    bounds: [],
    sum: stats?.batchedTokens ?? 0,
    count: stats?.stepCount ?? 0,
    cumulative: () => [],
  };
}
