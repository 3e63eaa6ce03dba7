import type { FastifyInstance } from "fastify";
import { GatewayError } from "./gateway-error.ts";
import type { ModelRoute, Replicas } from "./replicas.ts";

const maxListedNames = 20;

/** `GET /v1/models` and `GET /v1/models/{id}`; an id may contain slashes. */
export async function modelRoutes(
  app: FastifyInstance,
  { replicas }: { readonly replicas: Replicas },
): Promise<void> {
  app.get("/v1/models", async () => ({
    object: "list",
    data: replicas.routes().flatMap((route) => route.modelNames.map((id) => modelCard(route, id))),
  }));

  app.get<{ Params: { "*": string } }>("/v1/models/*", async (request) => {
    const id = request.params["*"];
    return modelCard(findRoute(replicas, id), id);
  });
}

/**
 * @throws GatewayError `model_not_found`, with the names that there are.
 */
export function findRoute(replicas: Replicas, model: string): ModelRoute {
  const route = replicas.resolve(model);
  if (route !== undefined) return route;
  throw new GatewayError("model_not_found", `the model "${model}" is not served here`, {
    remedy: remedyFor(replicas.routes().flatMap(({ modelNames }) => modelNames)),
    param: "model",
  });
}

function remedyFor(names: readonly string[]): string {
  if (names.length === 0) return "No model is served yet: apply an InferenceService.";
  const listed = names.slice(0, maxListedNames).join(", ");
  const more = names.length > maxListedNames ? ` and ${names.length - maxListedNames} more` : "";
  return `Use one of: ${listed}${more}.`;
}

/** `root` is the name that an alias stands for, as in vLLM's list. */
function modelCard(route: ModelRoute, id: string): object {
  return {
    id,
    object: "model",
    created: Math.floor(route.createdAt.getTime() / 1000),
    owned_by: "quire",
    root: route.modelNames[0],
  };
}
