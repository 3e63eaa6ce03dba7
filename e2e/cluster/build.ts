/**
 * `node e2e/cluster/build.ts`: builds etcd, Kubernetes' control plane and kubectl from their Go
 * modules into `build/cluster`. About 15 minutes of processor time when Go's build cache is empty,
 * nothing when the sources are those of the last build. It runs at the lowest priority.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** Must be the version of `k8s.io/kubernetes` in `kubernetes/go.mod`. */
export const kubernetesVersion = "v1.37.2";

/** Where the programs lie, each under its own name. */
export const programsFolder = fileURLToPath(new URL("../../build/cluster", import.meta.url));

const sourceFolder = fileURLToPath(new URL("kubernetes", import.meta.url));
const sourceFiles = ["go.mod", "go.sum", "main.go"];
const programNames = [
  "etcd",
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "kubectl",
];
const stampFile = join(programsFolder, "stamp");

/** Tests and debug aids are left out of the build, and with them a part of its time. */
const buildTags = "providerless,notest,grpcnotrace";
/** Packages compile beside other work: two at a time at most, after everything else. */
const parallelPackages = 2;
const progressIntervalMs = 10_000;

/** Whether `build/cluster` holds what the sources describe. */
export function isBuilt(): boolean {
  return existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp();
}

/** The `go` command, where it is installed. */
export function goCommand(path: string | undefined): string | undefined {
  const folders = [...(path ?? "").split(":"), "/usr/local/go/bin"];
  return folders.map((folder) => join(folder, "go")).find((file) => existsSync(file));
}

/**
 * Builds what is missing. Two builds at once wait for each other.
 *
 * @param print takes one line of progress at a time
 * @throws Error with the compiler's own words when the build fails
 */
export async function buildPrograms(go: string, print: (line: string) => void): Promise<void> {
  if (isBuilt()) return print(`kubernetes ${kubernetesVersion}: build/cluster is up to date`);
  mkdirSync(programsFolder, { recursive: true });
  const total = (await output(go, ["list", "-deps", "-tags", buildTags, "."])).length;
  print(`kubernetes ${kubernetesVersion}: building ${total} packages that are not cached yet`);
  const startedAtMs = performance.now();
  const binary = join(programsFolder, "control-plane");
  await compile(go, `${binary}.new`, total, print);
  rmSync(stampFile, { force: true });
  renameSync(`${binary}.new`, binary);
  for (const name of programNames) {
    rmSync(join(programsFolder, name), { force: true });
    symlinkSync("control-plane", join(programsFolder, name));
  }
  writeFileSync(stampFile, stamp());
  print(`kubernetes ${kubernetesVersion}: built in ${seconds(startedAtMs)} s`);
}

async function compile(
  go: string,
  file: string,
  total: number,
  print: (line: string) => void,
): Promise<void> {
  const startedAtMs = performance.now();
  const compiler = start("flock", [join(programsFolder, "lock"), go, ...buildArguments(file)]);
  let compiled = 0;
  const errors: string[] = [];
  // With -v, each package is named as it is compiled; lines with spaces are errors.
  createInterface({ input: compiler.stderr }).on("line", (line) => {
    if (/^\S+$/.test(line)) compiled += 1;
    else errors.push(line);
  });
  const progress = setInterval(
    () => print(`kubernetes: ${compiled} of ${total} packages, ${seconds(startedAtMs)} s`),
    progressIntervalMs,
  );
  try {
    const [code] = (await once(compiler, "close")) as [number | null];
    if (code !== 0) throw new Error(`go build ended with ${code}:\n${errors.join("\n")}`);
  } finally {
    clearInterval(progress);
  }
}

function buildArguments(file: string): string[] {
  return [
    ...["build", "-v", "-p", String(parallelPackages), "-o", file],
    ...["-mod=readonly", "-trimpath", "-buildvcs=false", "-tags", buildTags],
    ...["-ldflags", ["-s", "-w", ...versionFlags()].join(" "), "."],
  ];
}

/** Without them the server calls itself v0.0.0 and kubectl warns. A fixed date: same file each time. */
function versionFlags(): string[] {
  const [major, minor] = kubernetesVersion.slice(1).split(".");
  const values = {
    gitVersion: kubernetesVersion,
    gitMajor: major,
    gitMinor: minor,
    gitTreeState: "clean",
    buildDate: "1980-01-01T00:00:00Z",
  };
  return ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].flatMap((variables) =>
    Object.entries(values).map(([name, value]) => `-X ${variables}.${name}=${value}`),
  );
}

/** What the programs were made of: same text, same programs. */
function stamp(): string {
  const hash = createHash("sha256").update(buildArguments("").join("\n"));
  for (const file of sourceFiles) hash.update(readFileSync(join(sourceFolder, file)));
  return hash.digest("hex");
}

async function output(command: string, args: readonly string[]): Promise<string[]> {
  const child = start(command, args);
  const lines: string[] = [];
  const errors: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  createInterface({ input: child.stderr }).on("line", (line) => errors.push(line));
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`${command} ended with ${code}:\n${errors.join("\n")}`);
  return lines;
}

function start(command: string, args: readonly string[]) {
  return spawn("nice", ["-n", "19", command, ...args], {
    cwd: sourceFolder,
    stdio: ["ignore", "pipe", "pipe"],
    // biome-ignore lint/style/noProcessEnv: Go finds its caches and proxy there.
    env: { ...process.env, CGO_ENABLED: "0", GOTOOLCHAIN: "local" },
  });
}

function seconds(sinceMs: number): string {
  return ((performance.now() - sinceMs) / 1_000).toFixed(0);
}

if (import.meta.main) {
  // biome-ignore lint/style/noProcessEnv: a program of its own, as main.ts files are.
  const go = goCommand(process.env["PATH"]);
  if (go === undefined) throw new Error("Go is not installed: install Go 1.26 or later");
  await buildPrograms(go, (line) => process.stdout.write(`${line}\n`));
}
