import { setTimeout as delay } from "node:timers/promises";
import type { FastifyInstance } from "fastify";
import { annotations, fieldManager } from "./api/names.ts";
import { Autoscaler } from "./autoscaler/autoscaler.ts";
import type { OperatorConfig } from "./config.ts";
import { KubernetesCluster } from "./inference-service/cluster.ts";
import { EngineReader } from "./inference-service/engine-reader.ts";
import { reconcile } from "./inference-service/reconcile.ts";
import { ScalingLoop } from "./inference-service/scaling-loop.ts";
import { World } from "./inference-service/world.ts";
import { OperatorMetrics } from "./metrics.ts";
import { Applier } from "./runtime/apply.ts";
import { Controller, type ReconcileOutcome } from "./runtime/controller.ts";
import type { Credentials } from "./runtime/credentials.ts";
import { Election } from "./runtime/election.ts";
import { EventRecorder } from "./runtime/events.ts";
import { buildHealthServer } from "./runtime/health-server.ts";
import { keyOf } from "./runtime/kubernetes-object.ts";
import { runManager } from "./runtime/manager.ts";
import { Transport } from "./runtime/transport.ts";

const tickMs = 1_000;

/** All parts of `quire operator`, put together. */
export class Operator {
  readonly #config: OperatorConfig;
  readonly #metrics = new OperatorMetrics();
  readonly #app: FastifyInstance;
  readonly #election: Election;
  readonly #transport: Transport;
  readonly #world: World;
  readonly #reader = new EngineReader();
  readonly #scaling: ScalingLoop;
  readonly #events: EventRecorder;
  readonly #cluster: KubernetesCluster;
  readonly #controller: Controller;

  constructor(config: OperatorConfig, credentials: Credentials) {
    this.#config = config;
    const metrics = this.#metrics;
    this.#app = buildHealthServer({
      logLevel: config.logLevel,
      isReady: () => this.#world.hasSynced,
      metrics: () => metrics.registry.metrics(),
      metricsType: metrics.registry.contentType,
    });
    const { log } = this.#app;
    this.#election = new Election({
      credentials,
      namespace: config.leaseNamespace,
      leaseName: config.leaseName,
      identity: config.identity,
      onError: (err) => log.warn({ err }, "the lease could not be asked for"),
    });
    this.#transport = new Transport({
      credentials,
      beforeWrite: this.#election.assertLeading,
      onAnswer: (method, code, seconds) => {
        metrics.apiRequests.inc({ method, code });
        metrics.apiSeconds.observe({ method }, seconds);
      },
    });
    this.#world = new World({
      transport: this.#transport,
      namespace: config.watchNamespace,
      onList: ({ plural }) => metrics.lists.inc({ resource: plural }),
      onError: ({ plural }, err) => {
        metrics.watchFailures.inc({ resource: plural });
        log.warn({ err, resource: plural }, "a watch failed and is begun anew");
      },
    });
    this.#controller = new Controller({
      reconcile: (key, signal) => reconcile(key, this.#cluster.until(signal), new Date()),
      onOutcome: (key, outcome) => this.#observe(key, outcome),
    });
    this.#scaling = new ScalingLoop({
      world: this.#world,
      reader: this.#reader,
      autoscaler: new Autoscaler(),
      onChange: (key, priority) => this.#controller.add(key, priority),
    });
    this.#events = new EventRecorder({
      transport: this.#transport,
      controller: "quire.dev/operator",
      instance: config.identity,
      now: () => new Date(),
      onError: (err) => log.warn({ err }, "an event was not published"),
    });
    this.#cluster = this.#buildCluster(config);
    this.#world.subscribe((key) => this.#controller.add(key));
    metrics.follow({
      isLeading: () => this.#election.isLeading,
      queueDepth: () => this.#controller.depth,
      serviceCount: () => this.#world.services.size,
      podCount: () => this.#world.pods.size,
    });
  }

  /** Runs until `shutdown`. @returns the exit code: 1 where the lease was lost. */
  async run(shutdown: AbortSignal): Promise<number> {
    const { host, port } = this.#config;
    await this.#app.listen({ host, port });
    const ended = await runManager(
      {
        watch: (signal) => this.#world.run(signal),
        synced: () => this.#world.synced(),
        election: this.#election,
        lead: () => this.#lead(),
        onPhase: (phase) => this.#app.log.info({ phase }, "the operator's phase changed"),
      },
      shutdown,
    );
    this.#reader.close();
    this.#transport.close();
    await this.#app.close();
    if (ended === "lost") this.#app.log.error("the lease was lost: this process ends");
    return ended === "lost" ? 1 : 0;
  }

  #lead(): () => Promise<void> {
    const stopping = new AbortController();
    this.#controller.start(this.#world.services.values().map(keyOf));
    const ticking = this.#tickUntil(stopping.signal);
    return async () => {
      stopping.abort();
      await Promise.all([this.#controller.stop(), ticking]);
      await this.#events.flush();
    };
  }

  async #tickUntil(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const startMs = performance.now();
      await this.#scaling.tick().catch((err: unknown) => {
        this.#app.log.error({ err }, "the autoscaler failed");
      });
      const tookMs = performance.now() - startMs;
      this.#metrics.tickSeconds.observe(tookMs / 1_000);
      const restMs = Math.max(0, tickMs - tookMs);
      await delay(restMs, undefined, { signal }).catch(() => undefined);
    }
  }

  #buildCluster({ engineImage, cpuEngineImage }: OperatorConfig): KubernetesCluster {
    const transport = this.#transport;
    return new KubernetesCluster({
      transport,
      world: this.#world,
      applier: new Applier({
        transport,
        fieldManager,
        hashAnnotation: annotations.appliedHash,
      }),
      events: this.#events,
      scaling: this.#scaling,
      images: { cuda: engineImage, cpu: cpuEngineImage ?? engineImage },
      lookAgain: (key, delayMs) => this.#controller.addAfter(key, delayMs),
    });
  }

  #observe(key: string, { kind, seconds, error }: ReconcileOutcome): void {
    this.#metrics.reconciles.inc({ outcome: kind });
    this.#metrics.reconcileSeconds.observe(seconds);
    const [namespace, name] = key.split("/");
    const fields = { namespace, name, durationMs: Math.round(1_000 * seconds) };
    if (kind === "failed") this.#app.log.warn({ ...fields, err: error }, "reconcile failed");
    else this.#app.log.debug({ ...fields, outcome: kind }, "reconciled");
  }
}
