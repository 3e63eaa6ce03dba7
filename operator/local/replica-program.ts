import { fileURLToPath } from "node:url";
import type { ReplicaCommand } from "./replica-process.ts";

/** How a replica is started: as this very program, by its path. */
export function replicaProgram(env: Readonly<Record<string, string | undefined>>): ReplicaCommand {
  const entry = fileURLToPath(new URL("../quire.mjs", import.meta.url));
  return { program: process.execPath, args: [entry], env };
}
