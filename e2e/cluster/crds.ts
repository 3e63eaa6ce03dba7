/** Puts Quire's API on a cluster. */
import { fileURLToPath } from "node:url";
import { until } from "../program.ts";
import type { Cluster } from "./cluster.ts";

const folder = fileURLToPath(new URL("../../crds", import.meta.url));
const resources = ["inferenceservices", "autoscalingpolicies"];
const servedDeadlineMs = 60_000;

/** Applies both definitions and waits until the server answers for them. */
export async function installCrds(cluster: Cluster): Promise<void> {
  await cluster.kubectl(["apply", "-f", folder]);
  const crds = resources.map((resource) => `crd/${resource}.quire.dev`);
  await cluster.kubectl(["wait", "--for=condition=Established", "--timeout=60s", ...crds]);
  // Established comes before served: until then lists answer 404 or 429.
  for (const resource of resources) {
    await until(`${resource} are served`, servedDeadlineMs, async () => {
      const { status } = await cluster.request("GET", `/apis/quire.dev/v1alpha1/${resource}`);
      return status === 200;
    });
  }
}
