/** What a machine needs for these tests; each function tells what is missing, to skip tests with. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { isBuilt } from "./build.ts";

const commandFolders = [
  "/usr/local/sbin",
  "/usr/local/bin",
  "/usr/sbin",
  "/usr/bin",
  "/sbin",
  "/bin",
];

export function namespacesMissing(): string | undefined {
  if (process.platform !== "linux") return "network namespaces need Linux";
  const missing = ["unshare", "nsenter", "ip", "bash"].filter(
    (name) => !commandFolders.some((folder) => existsSync(join(folder, name))),
  );
  if (missing.length === 0) return undefined;
  return `${missing.join(", ")} not found: install util-linux, iproute2 and bash`;
}

/** Tests never build it themselves: the first time, that takes many minutes. */
export function clusterMissing(): string | undefined {
  if (isBuilt()) return namespacesMissing();
  return "Kubernetes is not built from the present sources: run node e2e/cluster/build.ts";
}
