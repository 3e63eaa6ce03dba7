/**
 * `npm start`: builds what is missing, serves the quickstart manifest, prints one answer and goes on
 * serving. With `--once` it ends there.
 */
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ask } from "./ask.ts";
import { findGpus } from "./gpus.ts";
import { buildAddon, missingTools } from "./native-build.ts";
import { parsePort } from "./port.ts";
import { createProgress, type Progress } from "./progress.ts";
import { replicaProgram } from "./replica-program.ts";
import { curlLine, Shell } from "./shell.ts";
import { untilSignalled } from "./until-signalled.ts";
import { Up } from "./up.ts";
import { UpError } from "./up-error.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const manifest = "crds/examples/quickstart.yaml";
const model = "smollm2";
const readyPollMs = 50;
/** An engine that ended this often will not serve without help. */
const maxRestarts = 2;

/** A question that this small model answers well, whatever the processor's arithmetic. */
const question = {
  model,
  temperature: 0,
  max_tokens: 64,
  messages: [
    { role: "system", content: "You are a pirate. Answer like a pirate." },
    { role: "user", content: "How are you today?" },
  ],
};

// biome-ignore lint/style/noProcessEnv: a program of its own, as main.ts files are.
const environment = process.env;
process.exitCode = await main(process.argv.slice(2), environment).catch((error: unknown) => {
  if (!(error instanceof UpError)) throw error;
  process.stderr.write(`${error.message}\n`);
  return 1;
});
process.exit();

async function main(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const { once, port } = readFlags(argv);
  const missing = missingTools();
  if (missing.length > 0) throw new UpError(missing.join("\n"));
  const progress = createProgress(process.stderr);
  await buildAddon(root, (done) => {
    const text = `building the engine, ${done} %`;
    progress.show(new Map([["npm start", { phase: "build", done, total: 100, text }]]));
  });
  progress.show(new Map());
  process.chdir(root);
  const shell = new Shell(progress, false);
  const up = await Up.start({
    file: manifest,
    host: "127.0.0.1",
    port,
    env,
    gpus: await findGpus(env["CUDA_VISIBLE_DEVICES"]),
    program: replicaProgram(env),
    listener: shell,
  });
  shell.follow(up);
  const signalled = untilSignalled(up, () => shell.log("draining; Ctrl-C again ends at once"));
  try {
    const ended = await Promise.race([answer(up, progress), signalled]);
    if (ended !== undefined) return ended;
  } catch (error) {
    await up.drain();
    throw error;
  }
  if (!once) return signalled.finally(() => shell.close());
  shell.close();
  await up.drain();
  return 0;
}

function readFlags(argv: readonly string[]): { once: boolean; port: number } {
  try {
    const options = { once: { type: "boolean" }, port: { type: "string" } } as const;
    const { values } = parseArgs({ args: [...argv], options });
    return { once: values.once === true, port: parsePort(values.port ?? "8000") };
  } catch (cause) {
    throw new UpError(`${(cause as Error).message} The flags are --once and --port.`, { cause });
  }
}

/** Waits for the model, asks it and prints what it says. */
async function answer(up: Up, progress: Progress): Promise<undefined> {
  while (up.cluster.resolve(model)?.replicas.length === 0) {
    const failed = up.cluster
      .pods()
      .find(({ replica }) => (replica?.restartCount ?? 0) >= maxRestarts);
    const { message, remedy } = failed?.replica?.termination ?? {};
    if (message !== undefined) throw new UpError(`${model} does not start: ${message}. ${remedy}`);
    await delay(readyPollMs);
  }
  progress.stop();
  process.stdout.write(`\n${question.messages.map(({ content }) => `> ${content}`).join("\n")}\n`);
  await ask(up.address, question, (text) => process.stdout.write(text));
  process.stdout.write(`\n\nAsk it yourself:\n${curlLine(up.address, model)}\n`);
  return undefined;
}
