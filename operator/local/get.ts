import { stringify } from "yaml";
import type { AutoscalingPolicy } from "../api/autoscaling-policy.ts";
import type { InferenceService } from "../api/inference-service.ts";
import { apiVersion } from "../api/names.ts";
import { conditionOf } from "../reconcile/status.ts";
import { findRuns } from "./run-folder.ts";
import { formatAge, formatTable } from "./table.ts";
import { UpError } from "./up-error.ts";

const deadlineMs = 5_000;

export const outputs = ["wide", "json", "yaml"] as const;
export type Output = (typeof outputs)[number];

export interface GetOptions {
  /** Port of the `quire up` to ask; without one, the one that runs. */
  readonly port: number | undefined;
  readonly output: Output | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
}

interface Pod {
  readonly metadata: { readonly name: string; readonly creationTimestamp: string };
  readonly status: {
    readonly reason: string;
    readonly ready: boolean;
    readonly restartCount: number;
    readonly message?: string;
    readonly pid?: number;
    readonly port?: number;
    readonly logFile?: string;
  };
}

interface Kind {
  /** What people may write for it; the first is the word in the path. */
  readonly names: readonly string[];
  readonly prefix: string;
  readonly header: readonly string[];
  readonly wideHeader: readonly string[];
  readonly row: (item: never, nowMs: number) => readonly string[];
  readonly wide: (item: never) => readonly string[];
}

const quireApi = `/apis/${apiVersion}`;

const services: Kind = {
  names: ["inferenceservices", "inferenceservice", "qis"],
  prefix: quireApi,
  header: ["NAME", "MODEL", "READY", "REPLICAS", "KV", "QUEUE", "REASON", "AGE"],
  wideHeader: ["PHASE", "URL", "MESSAGE"],
  row: ({ metadata, status }: InferenceService, nowMs) => {
    const ready = conditionOf(status, "Ready");
    const { model, replicas, kv, queue } = status?.display ?? {};
    const columns = [model, ready?.status, replicas, kv, queue, ready?.reason];
    const age = formatAge(metadata.creationTimestamp, nowMs);
    return [metadata.name, ...columns.map((column) => column ?? "-"), age];
  },
  wide: ({ status }: InferenceService) => [
    status?.phase ?? "-",
    status?.url ?? "-",
    conditionOf(status, "Ready")?.message ?? "-",
  ],
};

const policies: Kind = {
  names: ["autoscalingpolicies", "autoscalingpolicy"],
  prefix: quireApi,
  header: ["NAME", "PRIORITY", "AGE"],
  wideHeader: ["SELECTOR"],
  row: ({ metadata, spec }: AutoscalingPolicy, nowMs) => [
    metadata.name,
    String(spec.priority),
    formatAge(metadata.creationTimestamp, nowMs),
  ],
  wide: ({ spec }: AutoscalingPolicy) => [JSON.stringify(spec.selector ?? null)],
};

const pods: Kind = {
  names: ["pods", "pod", "po"],
  prefix: "/api/v1",
  header: ["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
  wideHeader: ["PID", "PORT", "LOG", "MESSAGE"],
  row: ({ metadata, status }: Pod, nowMs) => [
    metadata.name,
    status.ready ? "1/1" : "0/1",
    status.reason,
    String(status.restartCount),
    formatAge(metadata.creationTimestamp, nowMs),
  ],
  wide: ({ status }: Pod) =>
    [status.pid, status.port, status.logFile, status.message].map((value) => String(value ?? "-")),
};

const kinds = [services, policies, pods];

/**
 * The text of `quire get WORDS`: `[KIND] [NAME]`, where a lone word that is no kind names a service.
 *
 * @throws UpError when nothing runs, several runs could be meant, or there is no such object
 */
export async function get(words: readonly string[], options: GetOptions): Promise<string> {
  const kind = kinds.find(({ names }) => names.includes(words[0] ?? services.names[0] ?? ""));
  const name = kind === undefined ? words[0] : words[1];
  const { names, prefix, ...columns } = kind ?? services;
  const address = await addressOf(options);
  const path = [prefix, names[0], ...(name === undefined ? [] : [encodeURIComponent(name)])];
  const body = await fetchJson(address, path.join("/"));
  if (options.output === "json") return `${JSON.stringify(body, undefined, 2)}\n`;
  if (options.output === "yaml") return stringify(body);
  const items = name === undefined ? ((body as { items: unknown[] }).items ?? []) : [body];
  if (items.length === 0) return `No ${names[0]} found.\n`;
  const wide = options.output === "wide";
  const rows = items.map((item) => [
    ...columns.row(item as never, Date.now()),
    ...(wide ? columns.wide(item as never) : []),
  ]);
  return formatTable([...columns.header, ...(wide ? columns.wideHeader : [])], rows);
}

async function addressOf({ port, env }: GetOptions): Promise<string> {
  if (port !== undefined) return `http://127.0.0.1:${port}`;
  const runs = await findRuns(env);
  const [run] = runs;
  if (run === undefined)
    throw new UpError("no quire up is running: start one with quire up -f FILE");
  if (runs.length === 1) return run.address;
  const listed = runs.map(({ address, manifest }) => `  ${address} (${manifest})`).join("\n");
  throw new UpError(`${runs.length} quire up are running: choose one with --port\n${listed}`);
}

async function fetchJson(address: string, path: string): Promise<unknown> {
  const response = await fetch(address + path, { signal: AbortSignal.timeout(deadlineMs) }).catch(
    (cause: unknown) => {
      throw new UpError(`no quire up answers at ${address}: see that it runs, or name its --port`, {
        cause,
      });
    },
  );
  const body: unknown = await response.json();
  if (response.ok) return body;
  const { error } = body as { error?: { message?: string } };
  throw new UpError(error?.message ?? `HTTP ${response.status} from ${address}${path}`);
}
