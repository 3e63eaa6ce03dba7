/** Runs one autoscaling rule over one trace in virtual time and says how its users fared. */
import type { Observation } from "../window.ts";
import { type EngineModel, SimulatedReplica, type SimulatedRequest } from "./replica.ts";

/** A rule sees one observation a second and answers how many replicas there should be. */
export interface ScalingRule {
  readonly name: string;
  next(observation: Observation, desiredReplicas: number): number;
}

export interface Report {
  /** Fraction of requests whose first token came within the aim. */
  readonly attainment: number;
  readonly gpuSeconds: number;
  /** Changes of direction per hour. */
  readonly oscillationsPerHour: number;
  readonly ttftP99Ms: number;
  readonly lostRequests: number;
  readonly maxReplicas: number;
}

const tickMs = 1_000;
const ttftAimMs = 1_000;
// After the last arrival, for answers that are under way.
const graceMs = 120_000;

export function simulate(
  requests: readonly SimulatedRequest[],
  rule: ScalingRule,
  model: EngineModel,
  replicaLimit: number,
): Report {
  const fleet = new Fleet(model, replicaLimit);
  const lastArrivalMs = requests.at(-1)?.arrivedMs ?? 0;
  let next = 0;
  let nextTickMs = tickMs;
  while (nextTickMs <= lastArrivalMs + graceMs) {
    const arrivalMs = requests[next]?.arrivedMs ?? Number.POSITIVE_INFINITY;
    const busiest = fleet.nextToFinish();
    const stepEndMs = busiest?.stepEndMs ?? Number.POSITIVE_INFINITY;
    const nowMs = Math.min(arrivalMs, stepEndMs, nextTickMs);
    if (nowMs === arrivalMs) fleet.route(requests[next++] as SimulatedRequest, nowMs);
    else if (nowMs === stepEndMs) busiest?.finishStep();
    else {
      fleet.scaleTo(rule.next(fleet.observe(nowMs), fleet.desired), nowMs);
      nextTickMs += tickMs;
    }
  }
  return reportOf(requests, fleet, lastArrivalMs);
}

class Fleet {
  desired = 1;
  gpuMs = 0;
  directionChanges = 0;
  maxReplicas = 1;
  #replicas: SimulatedReplica[];
  #created = 1;
  #direction = 0;
  readonly #model: EngineModel;
  readonly #limit: number;

  constructor(model: EngineModel, limit: number) {
    this.#model = model;
    this.#limit = limit;
    this.#replicas = [new SimulatedReplica("replica-0", -model.loadMs, model)];
  }

  nextToFinish(): SimulatedReplica | undefined {
    let first: SimulatedReplica | undefined;
    for (const replica of this.#replicas) {
      if (first === undefined || replica.stepEndMs < first.stepEndMs) first = replica;
    }
    return first;
  }

  /** To the ready replica with the fewest requests. */
  route(request: SimulatedRequest, nowMs: number): void {
    let least: SimulatedReplica | undefined;
    for (const replica of this.#ready(nowMs)) {
      if (least === undefined || replica.inFlight < least.inFlight) least = replica;
    }
    least?.enqueue(request, nowMs);
  }

  observe(nowMs: number): Observation {
    const ready = this.#ready(nowMs);
    const pending = this.#replicas.filter((r) => !r.draining && r.readyMs > nowMs);
    return {
      atMs: nowMs,
      samples: ready.map((replica) => replica.sample(nowMs)),
      readyCount: ready.length,
      pendingCount: pending.length,
    };
  }

  scaleTo(wanted: number, nowMs: number): void {
    const desired = Math.min(this.#limit, Math.max(1, wanted));
    const direction = Math.sign(desired - this.desired);
    if (direction !== 0 && direction === -this.#direction) this.directionChanges += 1;
    if (direction !== 0) this.#direction = direction;
    this.desired = desired;
    const serving = this.#replicas.filter((replica) => !replica.draining);
    for (let i = serving.length; i < desired; i++) {
      const name = `replica-${this.#created++}`;
      this.#replicas.push(new SimulatedReplica(name, nowMs, this.#model));
    }
    // A replica that is still loading serves nobody; then the one with the least in flight.
    const victims = serving.sort(
      (a, b) => Number(b.readyMs > nowMs) - Number(a.readyMs > nowMs) || a.inFlight - b.inFlight,
    );
    for (const victim of victims.slice(0, Math.max(0, serving.length - desired)))
      victim.draining = true;
    this.#replicas = this.#replicas.filter((r) => !r.draining || r.inFlight > 0);
    this.gpuMs += this.#replicas.length * tickMs;
    this.maxReplicas = Math.max(this.maxReplicas, this.#replicas.length);
  }

  #ready(nowMs: number): SimulatedReplica[] {
    return this.#replicas.filter((r) => !r.draining && r.readyMs <= nowMs);
  }
}

function reportOf(requests: readonly SimulatedRequest[], fleet: Fleet, lastMs: number): Report {
  const waits = requests
    .map((r) => (r.firstTokenMs ?? Number.POSITIVE_INFINITY) - r.arrivedMs)
    .sort((a, b) => a - b);
  return {
    attainment: waits.filter((wait) => wait <= ttftAimMs).length / Math.max(1, waits.length),
    gpuSeconds: fleet.gpuMs / 1_000,
    oscillationsPerHour: (fleet.directionChanges * 3_600_000) / Math.max(1, lastMs),
    ttftP99Ms: waits[Math.floor(waits.length * 0.99)] ?? 0,
    lostRequests: requests.filter((request) => request.doneMs === undefined).length,
    maxReplicas: fleet.maxReplicas,
  };
}
