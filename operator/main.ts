/** `quire operator`. */
import { CommanderError } from "commander";
import { operatorCommand } from "./config.ts";
import { Operator } from "./operator.ts";
import { type Credentials, kubeConfigCredentials, podCredentials } from "./runtime/credentials.ts";

const usageExitCode = 2;
const killedExitCode = 130;

/**
 * Runs the operator to its end.
 *
 * @param argv what follows the command's name
 * @returns the exit code: 1 where the lease was lost, 2 for a wrong command line
 */
export async function main(_: "operator", argv: readonly string[]): Promise<number> {
  let exitCode = 0;
  const command = operatorCommand(async (config) => {
    const operator = new Operator(config, await findCredentials());
    exitCode = await operator.run(untilSignalled());
  });
  try {
    await command.exitOverride().parseAsync([...argv], { from: "user" });
    return exitCode;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? 0 : usageExitCode;
  }
}

/** A kubeconfig that somebody named wins over the pod that this process runs in. */
async function findCredentials(): Promise<Credentials> {
  const ofPod = podCredentials(process.env);
  if (ofPod !== undefined && process.env["KUBECONFIG"] === undefined) return ofPod;
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  config.loadFromDefault();
  return kubeConfigCredentials(config);
}

function untilSignalled(): AbortSignal {
  const shutdown = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      // The second one is from somebody who does not want to wait.
      if (shutdown.signal.aborted) process.exit(killedExitCode);
      shutdown.abort();
    });
  }
  return shutdown.signal;
}
