/** A `quire serve` on a tiny random checkpoint, for tests that need a real engine behind a socket. */
import { fileURLToPath } from "node:url";
import { answersOk, freePort, Program, until } from "./program.ts";

/** Random Llama 3 of a few hundred kilobytes; its answers are noise, but always the same. */
export const tinyModel = fileURLToPath(
  new URL("../engine/models/fixtures/llama3", import.meta.url),
);

const startDeadlineMs = 60_000;

export class Serving implements AsyncDisposable {
  readonly program: Program;
  /** With `/v1`. */
  readonly url: string;
  readonly root: string;

  private constructor(program: Program, port: number) {
    this.program = program;
    this.root = `http://127.0.0.1:${port}`;
    this.url = `${this.root}/v1`;
  }

  static async start(
    flags: readonly string[] = [],
    env: Readonly<Record<string, string>> = {},
  ): Promise<Serving> {
    const port = await freePort();
    const args = ["serve", tinyModel, "--host", "127.0.0.1", "--port", String(port)];
    const program = new Program([...args, "--served-model-name", "tiny", ...flags], env);
    const serving = new Serving(program, port);
    await until(`serving ${tinyModel}`, startDeadlineMs, async () => {
      if (!program.running) throw new Error(`quire serve ended: ${program.output}`);
      return answersOk(`${serving.root}/health/ready`);
    });
    return serving;
  }

  post(path: string, body: unknown, init: RequestInit = {}): Promise<Response> {
    return fetch(`${this.root}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
      ...init,
    });
  }

  /** Text of one completion. */
  async complete(body: Readonly<Record<string, unknown>>): Promise<string> {
    const response = await this.post("/v1/completions", { model: "tiny", ...body });
    const json = (await response.json()) as { choices?: { text: string }[] };
    if (!response.ok || json.choices?.[0] === undefined) {
      throw new Error(`HTTP ${response.status}: ${JSON.stringify(json)}`);
    }
    return json.choices[0].text;
  }

  /** One value of `/metrics`, summed over its labels. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.root}/metrics`)).text();
    let sum: number | undefined;
    for (const line of text.split("\n")) {
      const match = /^([a-zA-Z_:]+)(?:\{[^}]*\})? (\S+)$/.exec(line);
      if (match?.[1] === name) sum = (sum ?? 0) + Number(match[2]);
    }
    if (sum === undefined) throw new Error(`/metrics has no ${name}`);
    return sum;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.program[Symbol.asyncDispose]();
  }
}
