/** `quire up` and `quire get`. */
import { Argument, Command, CommanderError, Option } from "commander";
import { get, type Output, outputs } from "./get.ts";
import { findGpus } from "./gpus.ts";
import { parsePort } from "./port.ts";
import { createProgress } from "./progress.ts";
import { replicaProgram } from "./replica-program.ts";
import { Shell } from "./shell.ts";
import { untilSignalled } from "./until-signalled.ts";
import { Up } from "./up.ts";
import { UpError } from "./up-error.ts";

const usageExitCode = 2;

/**
 * Runs one command to its end.
 *
 * @param argv what follows the command's name
 * @returns the exit code: 1 where the command cannot do what it was asked, 2 for a wrong command line
 */
export async function main(command: "up" | "get", argv: readonly string[]): Promise<number> {
  let exitCode = 0;
  const program = command === "up" ? upCommand(setExitCode) : getCommand();
  function setExitCode(code: number): void {
    exitCode = code;
  }
  try {
    await program.exitOverride().parseAsync([...argv], { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : usageExitCode;
    if (!(error instanceof UpError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return 1;
  }
}

interface UpFlags {
  readonly file: string;
  readonly host: string;
  readonly port: number;
}

function upCommand(setExitCode: (code: number) => void): Command {
  return new Command("quire up")
    .description("Serves a manifest on this machine, a process where a cluster has a pod.")
    .requiredOption("-f, --file <manifest>", "manifest to serve; saved edits are applied")
    .option("--host <address>", "address of the endpoint", "127.0.0.1")
    .option("--port <number>", "port of the endpoint; 0 takes a free one", parsePort, 8000)
    .action(async (flags: UpFlags) => {
      const shell = new Shell(createProgress(process.stderr), true);
      const up = await Up.start({
        ...flags,
        env: process.env,
        gpus: await findGpus(process.env["CUDA_VISIBLE_DEVICES"]),
        program: replicaProgram(process.env),
        listener: shell,
      });
      shell.follow(up);
      setExitCode(
        await untilSignalled(up, () => {
          shell.log("draining: answers under way are finished; Ctrl-C again ends them");
        }),
      );
      shell.close();
    });
}

interface GetFlags {
  readonly port?: number;
  readonly output?: Output;
}

function getCommand(): Command {
  return new Command("quire get")
    .description("Shows what a running quire up serves, in kubectl's columns.")
    .addArgument(
      new Argument(
        "[words...]",
        "inferenceservices (the default), autoscalingpolicies or pods, and a name",
      ),
    )
    .addOption(new Option("-o, --output <format>", "form of the output").choices(outputs))
    .option("--port <number>", "port of the quire up to ask", parsePort)
    .action(async (words: string[], flags: GetFlags) => {
      const { port, output } = flags;
      process.stdout.write(await get(words, { port, output, env: process.env }));
    });
}
