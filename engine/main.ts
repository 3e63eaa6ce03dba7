/** `quire serve` and `quire bench`. */
import { readFileSync } from "node:fs";

/**
 * Runs one command to its end.
 *
 * @param argv what follows the command's name
 * @returns the exit code
 */
export async function main(command: "serve" | "bench", argv: readonly string[]): Promise<number> {
  if (command === "bench") {
    const { bench } = await import("./bench/bench.ts");
    return bench(argv, process.env["OPENAI_API_KEY"]);
  }
  const { serve } = await import("./serve.ts");
  const shutdown = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      // The second one is from somebody who does not want to wait.
      if (shutdown.signal.aborted) process.exit(130);
      shutdown.abort();
    });
  }
  return serve({ argv, env: process.env, version: packageVersion(), shutdown: shutdown.signal });
}

function packageVersion(): string {
  const file = new URL("../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
