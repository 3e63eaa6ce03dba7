import type { FastifyInstance } from "fastify";
import { modelOf, type RouteContext } from "./context.ts";
import type { Serving } from "./lifecycle.ts";

/** GET /v1/models and one of them; names may contain slashes. */
export async function modelRoutes(
  app: FastifyInstance,
  { lifecycle }: RouteContext,
): Promise<void> {
  app.get("/v1/models", { schema: { summary: "List the served names." } }, async () => {
    const serving = lifecycle.requireServing();
    return { object: "list", data: serving.modelNames.map((name) => modelBody(serving, name)) };
  });

  app.get<{ Params: { "*": string } }>(
    "/v1/models/*",
    { schema: { summary: "Describe one served name." } },
    async (request) => {
      const serving = lifecycle.requireServing();
      return modelBody(serving, modelOf(serving, request.params["*"]));
    },
  );
}

function modelBody(serving: Serving, name: string) {
  return {
    id: name,
    object: "model",
    created: serving.createdSeconds,
    owned_by: "quire",
    root: serving.modelNames[0],
    parent: null,
    max_model_len: serving.engine.maxModelLen,
  };
}
