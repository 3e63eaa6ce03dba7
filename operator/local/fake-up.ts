/** `quire up` with fake engines, for tests that kill it: `fake-up.ts MANIFEST PORT CACHE_FOLDER`. */
import { join } from "node:path";
import { untilSignalled } from "./until-signalled.ts";
import { Up } from "./up.ts";

const [file = "", port = "", cache = ""] = process.argv.slice(2);
const say = (line: string) => process.stdout.write(`${line}\n`);
const up = await Up.start({
  file,
  host: "127.0.0.1",
  port: Number(port),
  env: { XDG_CACHE_HOME: cache },
  gpus: [],
  program: {
    program: process.execPath,
    args: [join(import.meta.dirname, "fake-engine.ts")],
    env: {},
  },
  listener: {
    onListening: say,
    onEvent: (_, { reason, message }) => say(`${reason}: ${message}`),
    onApplied: () => say("applied"),
    onProblems: (problems) => say(problems.join("\n")),
    onError: (what, error) => say(`${what}: ${error}`),
  },
});
process.exitCode = await untilSignalled(up, () => say("draining"));
process.exit();
