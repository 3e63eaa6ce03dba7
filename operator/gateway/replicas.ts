/** What the gateway asks of the world: who serves a model. Processes and pods both answer it. */

/** One engine that may receive requests: it is ready and does not drain. */
export interface Replica {
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

/** How requests for one service find its replicas. */
export interface ModelRoute {
  /** Name of the service. */
  readonly service: string;
  /** What clients put into `model`: the model's own name first, then its aliases. */
  readonly modelNames: readonly string[];
  readonly createdAt: Date;
  readonly replicas: readonly Replica[];
  /** Message of the service's Ready condition: told to clients while no replica is ready. */
  readonly readyMessage: string;
}

/** Read on every request, so both answer from memory. */
export interface Replicas {
  /** @returns `undefined` when no service has a model of that name or alias. */
  resolve(model: string): ModelRoute | undefined;
  routes(): readonly ModelRoute[];
}
