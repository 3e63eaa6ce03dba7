import type { FastifyBaseLogger } from "fastify";
import { GatewayError } from "./gateway-error.ts";
import type { InFlight } from "./in-flight.ts";
import { pickReplica } from "./pick.ts";
import type { ModelRoute, Replica } from "./replicas.ts";
import type { Upstream, UpstreamAnswer, UpstreamRequest } from "./upstream.ts";

/** Other replicas tried when one is lost before its first byte. */
const maxRetries = 2;
const startRetrySeconds = 5;

/** An answer under way, and the replica that gives it. */
export interface Dispatched {
  readonly answer: UpstreamAnswer;
  readonly replica: Replica;
  /** Must be called when the answer has ended: until then the replica counts as busy with it. */
  readonly leave: () => void;
}

export interface DispatchRequest extends UpstreamRequest {
  /** Keeps requests of one session or prefix on one replica. */
  readonly key: string | undefined;
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal;
  readonly log: FastifyBaseLogger;
}

/** Gives each request to a replica, and to another one when the first is lost before its first byte. */
export class Dispatcher {
  readonly #inFlight: InFlight;
  readonly #upstream: Upstream;
  #turn = 0;

  constructor(inFlight: InFlight, upstream: Upstream) {
    this.#inFlight = inFlight;
    this.#upstream = upstream;
  }

  /**
   * @param readRoute the route as it is at each try: replicas come and go in between.
   * @throws GatewayError `no_replica_ready` or `no_replica_answered`; an `AbortError` when the client
   * left.
   */
  async dispatch(readRoute: () => ModelRoute, request: DispatchRequest): Promise<Dispatched> {
    const failures = new Map<string, string>();
    let route = readRoute();
    for (let tries = 0; tries <= maxRetries; tries++) {
      const untried = route.replicas.filter(({ name }) => !failures.has(name));
      const replica = this.#pick(untried, request.key);
      if (replica === undefined) break;
      const outcome = await this.#try(replica, request);
      if (typeof outcome !== "string") return outcome;
      failures.set(replica.name, outcome);
      route = readRoute();
    }
    throw failures.size === 0 ? noReplicaReady(route) : noReplicaAnswered(route, failures);
  }

  #pick(replicas: readonly Replica[], key: string | undefined): Replica | undefined {
    const candidates = replicas.map((replica) => ({
      replica,
      inFlight: this.#inFlight.of(replica.name),
    }));
    return pickReplica(candidates, key, this.#turn++);
  }

  /** @returns why the replica gave no answer, in words, when another one should be tried. */
  async #try(replica: Replica, request: DispatchRequest): Promise<Dispatched | string> {
    const leave = this.#inFlight.enter(replica.name);
    try {
      const answer = await this.#upstream.send(replica, request, request.signal);
      if (answer.status !== 503) return { answer, replica, leave };
      answer.abandon();
      leave();
      return "it takes no requests at the moment";
    } catch (error) {
      leave();
      if (request.signal.aborted) throw error;
      request.log.warn({ pod: replica.name, err: error }, "replica lost before its first byte");
      return error instanceof Error ? error.message : String(error);
    }
  }
}

function noReplicaAnswered(route: ModelRoute, failures: ReadonlyMap<string, string>): GatewayError {
  const each = [...failures].map(([name, why]) => `${name}: ${why}`).join("; ");
  return new GatewayError(
    "no_replica_answered",
    `no replica of ${route.service} answered (${each})`,
    {
      remedy: "Retry in 1 second: a replica that failed is started again.",
      retryAfterSeconds: 1,
    },
  );
}

function noReplicaReady(route: ModelRoute): GatewayError {
  const message = `${route.service} has no ready replica: ${route.readyMessage.replace(/\.$/, "")}`;
  return new GatewayError("no_replica_ready", message, {
    remedy: `Retry in ${startRetrySeconds} seconds.`,
    retryAfterSeconds: startRetrySeconds,
  });
}
