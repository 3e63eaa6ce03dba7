import type { FastifyInstance } from "fastify";
import { apiVersion, labels } from "../api/names.ts";
import { errorBody } from "../gateway/gateway-error.ts";
import type { LocalPod, ProcessCluster } from "./process-cluster.ts";
import type { ServiceStore } from "./service-store.ts";

const root = `/apis/${apiVersion}`;

interface Named {
  readonly metadata: { readonly name: string; readonly namespace?: string | undefined };
}

interface StatusOptions {
  readonly store: ServiceStore;
  readonly cluster: ProcessCluster;
}

/**
 * What runs, read-only, under the paths and in the shapes of a Kubernetes API server: lists, and
 * single objects by name, with or without the namespace.
 */
export async function statusRoutes(
  app: FastifyInstance,
  { store, cluster }: StatusOptions,
): Promise<void> {
  collection(app, root, "inferenceservices", "InferenceServiceList", () => store.services());
  collection(app, root, "autoscalingpolicies", "AutoscalingPolicyList", () => store.policies());
  collection(app, "/api/v1", "pods", "PodList", () => cluster.pods().map(podObject));
}

function collection(
  app: FastifyInstance,
  prefix: string,
  plural: string,
  kind: string,
  items: () => readonly Named[],
): void {
  const listVersion = prefix === root ? apiVersion : "v1";
  for (const path of [`${prefix}/${plural}`, `${prefix}/namespaces/:namespace/${plural}`]) {
    app.get<{ Params: { namespace?: string; name: string } }>(path, async ({ params }) => ({
      apiVersion: listVersion,
      kind,
      items: items().filter((item) => isIn(item, params.namespace)),
    }));
    app.get<{ Params: { namespace?: string; name: string } }>(
      `${path}/:name`,
      async ({ params }, reply) => {
        const found = items().find(
          (item) => item.metadata.name === params.name && isIn(item, params.namespace),
        );
        if (found !== undefined) return found;
        const message = `${plural} "${params.name}" not found. See GET ${prefix}/${plural}.`;
        return reply.code(404).send(errorBody(404, "not_found", message));
      },
    );
  }
}

function isIn({ metadata }: Named, namespace: string | undefined): boolean {
  return namespace === undefined || metadata.namespace === namespace;
}

/** The part of a Kubernetes Pod that a process has, with the process where a node would be. */
function podObject({ key, spec, replica, createdAt, unschedulable, deleted }: LocalPod) {
  const [namespace, service] = key.split("/");
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: spec.name,
      namespace,
      creationTimestamp: createdAt.toISOString(),
      labels: {
        [labels.inferenceService]: service,
        [labels.templateHash]: spec.template.hash,
      },
    },
    spec: { env: spec.template.env },
    status: {
      phase: replica === undefined ? "Pending" : "Running",
      reason: podReason({ replica, deleted }),
      message: unschedulable ?? replica?.termination?.message,
      ready: replica?.ready ?? false,
      restartCount: replica?.restartCount ?? 0,
      restartAt: replica?.restartAt?.toISOString(),
      startup: replica?.startup,
      pid: replica?.pid,
      port: replica?.port,
      logFile: replica?.logFile,
    },
  };
}

/** The word of kubectl's STATUS column. */
function podReason({ replica, deleted }: Pick<LocalPod, "replica" | "deleted">): string {
  if (replica === undefined) return "Pending";
  if (deleted) return "Terminating";
  if (replica.drainingSince !== undefined) return "Draining";
  if (replica.restartAt !== undefined) return "CrashLoopBackOff";
  if (replica.ready) return "Running";
  return replica.startup?.phase ?? "Starting";
}
