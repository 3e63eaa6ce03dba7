/**
 * Writes what follows from the custom resource definitions: the types in `operator/api/` and
 * `crds/REFERENCE.md`. `--check` writes nothing and fails when a file is out of date.
 */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { referenceOf } from "./reference.ts";
import type { Crd } from "./schema.ts";
import { typesOf } from "./typescript.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

const definitions = [
  { source: "crds/inferenceservice.yaml", types: "operator/api/inference-service.ts" },
  { source: "crds/autoscalingpolicy.yaml", types: "operator/api/autoscaling-policy.ts" },
];
const referencePath = "crds/REFERENCE.md";

/** Every generated file: path in the repository → text. */
export function generate(): Map<string, string> {
  const crds = definitions.map(({ source }) => parse(readFileSync(root + source, "utf8")) as Crd);
  const files = definitions.map(({ source, types }, index): [string, string] => {
    const crd = crds[index];
    if (crd === undefined) throw new Error(`${source} was not read`);
    return [types, format(types, typesOf(crd, source))];
  });
  return new Map([...files, [referencePath, format(referencePath, referenceOf(crds))]]);
}

/** Formats as `biome ci` will want it; the generator only takes care of line breaks. */
function format(path: string, text: string): string {
  const biome = `${root}node_modules/@biomejs/biome/bin/biome`;
  const args = [biome, "format", `--stdin-file-path=${path}`];
  const result = spawnSync(process.execPath, args, { cwd: root, input: text, encoding: "utf8" });
  if (result.status !== 0) throw new Error(`biome cannot format ${path}: ${result.stderr}`);
  return result.stdout;
}

function outdated(files: ReadonlyMap<string, string>): string[] {
  return [...files].filter(([path, text]) => read(path) !== text).map(([path]) => path);
}

function read(path: string): string | undefined {
  try {
    return readFileSync(root + path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const files = generate();
  const stale = outdated(files);
  if (!process.argv.includes("--check")) {
    for (const path of stale) writeFileSync(root + path, files.get(path) ?? "");
  } else if (stale.length > 0) {
    process.stderr.write(`out of date: ${stale.join(", ")}; run node crds/generate.ts\n`);
    process.exitCode = 1;
  }
}
