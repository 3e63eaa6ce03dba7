import { fieldName, type Path, type Problem } from "./problem.ts";

interface Restriction {
  readonly path: readonly string[];
  /** Whether a value needs Kubernetes; without it every value does. */
  readonly needsKubernetes?: (value: unknown) => boolean;
  readonly remedy: string;
}

const restrictions: readonly Restriction[] = [
  {
    path: ["spec", "model", "uri"],
    needsKubernetes: (uri) => typeof uri === "string" && uri.startsWith("pvc://"),
    remedy: "write file:///PATH with the model's place on this machine",
  },
  {
    path: ["spec", "model", "credentialsSecretRef"],
    remedy: "remove it and set the variable, such as HF_TOKEN, in the shell that runs quire up",
  },
  {
    path: ["spec", "resources", "gpu", "resourceName"],
    remedy: "remove it: GPUs of this machine are used by their count",
  },
  {
    path: ["spec", "resources", "gpu", "products"],
    remedy: "remove it: this machine has the GPUs that it has",
  },
  {
    path: ["spec", "scaling", "mode"],
    needsKubernetes: (mode) => mode === "External",
    remedy: "use Auto, or Static and edit spec.replicas: the change is applied when it is saved",
  },
  {
    path: ["spec", "service"],
    remedy: "remove it: all services share the endpoint of quire up",
  },
  { path: ["spec", "template"], remedy: "remove it: there are no pods to lay it over" },
  {
    path: ["spec", "namespaceSelector"],
    remedy: "remove it: namespaces have no labels here, spec.selector still selects",
  },
];

/**
 * What a manifest asks for that `quire up` has no way to do. It would be wrong to ignore it.
 *
 * @param manifest as written: a default is nothing that anybody asked for
 */
export function kubernetesOnly(manifest: unknown): Problem[] {
  return restrictions.flatMap(({ path, needsKubernetes = () => true, remedy }) => {
    const value = valueAt(manifest, path);
    if (value === undefined || !needsKubernetes(value)) return [];
    const text = typeof value === "string" ? ` "${value}"` : "";
    return [{ path, message: `${fieldName(path)}${text} needs Kubernetes`, remedy }];
  });
}

function valueAt(value: unknown, path: Path): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return value;
  if (typeof value !== "object" || value === null) return undefined;
  return valueAt(new Map<string | number, unknown>(Object.entries(value)).get(key), rest);
}
