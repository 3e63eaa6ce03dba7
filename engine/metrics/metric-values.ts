import { Counter, Gauge, type Histogram, type Registry } from "prom-client";

/** Counted values below ascending bounds; several metrics may show the same one. */
export class Distribution {
  readonly bounds: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;
  #count = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.#counts = new Float64Array(bounds.length);
  }

  /** @param times how often the value occurred */
  observe(value: number, times = 1): void {
    this.#sum += value * times;
    this.#count += times;
    const index = this.bounds.findIndex((bound) => value <= bound);
    if (index >= 0) this.#counts[index] = (this.#counts[index] ?? 0) + times;
  }

  get sum(): number {
    return this.#sum;
  }

  get count(): number {
    return this.#count;
  }

  /** Values at or below each bound. */
  cumulative(): number[] {
    let below = 0;
    return this.bounds.map((_, index) => {
      below += this.#counts[index] ?? 0;
      return below;
    });
  }
}

/** What a histogram shows: a `Distribution`, or sums that someone else keeps. */
export interface DistributionView {
  readonly bounds: readonly number[];
  readonly sum: number;
  readonly count: number;
  cumulative(): number[];
}

/**
 * Registers a histogram over values kept elsewhere. prom-client's own hashes its labels on every
 * observation, which the path of each token cannot afford.
 */
export function registerHistogram(
  registry: Registry,
  name: string,
  help: string,
  view: () => DistributionView,
): void {
  const metric = {
    name,
    help,
    type: "histogram",
    get: async () => ({ name, help, type: "histogram", values: histogramValues(name, view()) }),
  };
  // The registry asks a metric for its name and `get`, while its type asks for the class.
  registry.registerMetric(metric as unknown as Histogram);
}

function histogramValues(name: string, view: DistributionView) {
  const counts = view.cumulative();
  const buckets = view.bounds.map((bound, index) => ({
    metricName: `${name}_bucket`,
    labels: { le: String(bound) },
    value: counts[index] ?? 0,
  }));
  return [
    ...buckets,
    { metricName: `${name}_bucket`, labels: { le: "+Inf" }, value: view.count },
    { metricName: `${name}_sum`, labels: {}, value: view.sum },
    { metricName: `${name}_count`, labels: {}, value: view.count },
  ];
}

/** Registers a counter or gauge whose value is read when it is scraped; undefined shows none. */
export function registerReading(
  registry: Registry,
  type: "counter" | "gauge",
  name: string,
  help: string,
  read: () => number | undefined,
): void {
  const registers = [registry];
  if (type === "gauge") {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.remove();
        const value = read();
        if (value !== undefined) this.set(value);
      },
    });
  } else {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read() ?? 0);
      },
    });
  }
}
