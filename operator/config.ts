import { hostname } from "node:os";
import { Command, InvalidArgumentError, Option } from "commander";

export interface OperatorConfig {
  readonly engineImage: string;
  readonly cpuEngineImage?: string;
  readonly watchNamespace?: string;
  readonly leaseNamespace: string;
  readonly leaseName: string;
  readonly identity: string;
  readonly host: string;
  readonly port: number;
  readonly logLevel: string;
}

const logLevels = ["fatal", "error", "warn", "info", "debug", "trace", "silent"];

/** Every setting of the operator, once: flags, variables and `--help` come from here. */
export function operatorCommand(run: (config: OperatorConfig) => Promise<void>): Command {
  return new Command("quire operator")
    .description("Reconciles InferenceServices and scales them, inside a Kubernetes cluster.")
    .addOption(
      new Option("--engine-image <image>", "image of the engine's container")
        .env("QUIRE_ENGINE_IMAGE")
        .makeOptionMandatory(),
    )
    .addOption(
      new Option(
        "--cpu-engine-image <image>",
        "image for services without GPUs; unset takes --engine-image",
      ).env("QUIRE_CPU_ENGINE_IMAGE"),
    )
    .addOption(
      new Option(
        "--watch-namespace <name>",
        "serve this namespace alone, without AutoscalingPolicies; unset serves all",
      ).env("QUIRE_WATCH_NAMESPACE"),
    )
    .addOption(
      new Option("--lease-namespace <name>", "namespace of the lease that the leader holds")
        .env("QUIRE_LEASE_NAMESPACE")
        .makeOptionMandatory(),
    )
    .addOption(
      new Option("--lease-name <name>", "name of that lease")
        .env("QUIRE_LEASE_NAME")
        .default("quire-operator"),
    )
    .addOption(
      new Option("--identity <name>", "this process among the operator's")
        .env("QUIRE_IDENTITY")
        .default(`${hostname()}-${process.pid}`, "host name and process id"),
    )
    .addOption(
      new Option("--host <address>", "address of /healthz, /readyz and /metrics")
        .env("QUIRE_HOST")
        .default("0.0.0.0"),
    )
    .addOption(
      new Option("--port <number>", "port of them; 0 takes a free one")
        .env("QUIRE_PORT")
        .default(8080)
        .argParser(parsePort),
    )
    .addOption(
      new Option("--log-level <level>", "least severe log line that is written")
        .env("QUIRE_LOG_LEVEL")
        .choices(logLevels)
        .default("info"),
    )
    .action((flags: OperatorConfig) => run(flags));
}

function parsePort(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new InvalidArgumentError("Give a number from 0 to 65535.");
}
