import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

/** What gauges read when they are asked. */
export interface Readings {
  readonly isLeading: () => boolean;
  readonly queueDepth: () => number;
  readonly serviceCount: () => number;
  readonly podCount: () => number;
}

/** Every metric that the operator exports. */
export class OperatorMetrics {
  readonly registry = new Registry();
  readonly reconciles: Counter<"outcome">;
  readonly reconcileSeconds: Histogram;
  readonly apiRequests: Counter<"method" | "code">;
  readonly apiSeconds: Histogram<"method">;
  readonly lists: Counter<"resource">;
  readonly watchFailures: Counter<"resource">;
  readonly tickSeconds: Histogram;

  constructor() {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.reconciles = new Counter({
      name: "quire_operator_reconciles_total",
      help: "Reconciles by how they ended.",
      labelNames: ["outcome"],
      registers,
    });
    this.reconcileSeconds = new Histogram({
      name: "quire_operator_reconcile_seconds",
      help: "Time of one reconcile.",
      buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60],
      registers,
    });
    this.apiRequests = new Counter({
      name: "quire_operator_api_requests_total",
      help: "Requests to the API server by method and answer; 0 is none.",
      labelNames: ["method", "code"],
      registers,
    });
    this.apiSeconds = new Histogram({
      name: "quire_operator_api_request_seconds",
      help: "Time to the beginning of the API server's answer.",
      labelNames: ["method"],
      buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10],
      registers,
    });
    this.lists = new Counter({
      name: "quire_operator_lists_total",
      help: "Whole lists of a resource; more than one each tell of watches that could not go on.",
      labelNames: ["resource"],
      registers,
    });
    this.watchFailures = new Counter({
      name: "quire_operator_watch_failures_total",
      help: "Lists and watches that failed and were begun anew.",
      labelNames: ["resource"],
      registers,
    });
    this.tickSeconds = new Histogram({
      name: "quire_operator_autoscaler_tick_seconds",
      help: "Time of reading all engines and deciding.",
      buckets: [0.005, 0.02, 0.1, 0.5, 1, 2, 5],
      registers,
    });
  }

  /** Gauges are asked for, not set. */
  follow(readings: Readings): void {
    this.#gauge("quire_operator_leading", "1 while this process holds the lease.", () =>
      Number(readings.isLeading()),
    );
    this.#gauge("quire_operator_queue_depth", "Services that wait for a reconcile.", () =>
      readings.queueDepth(),
    );
    this.#gauge("quire_operator_inference_services", "InferenceServices in the cache.", () =>
      readings.serviceCount(),
    );
    this.#gauge("quire_operator_pods", "Engine pods in the cache.", () => readings.podCount());
  }

  #gauge(name: string, help: string, read: () => number): void {
    const gauge: Gauge = new Gauge({
      name,
      help,
      registers: [this.registry],
      collect: () => gauge.set(read()),
    });
  }
}
