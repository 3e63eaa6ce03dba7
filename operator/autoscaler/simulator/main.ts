/**
 * Prints how each autoscaling rule fares on each trace, in virtual time:
 * `node operator/autoscaler/simulator/main.ts [seeds]`.
 */
import type { EngineModel, SimulatedRequest } from "./replica.ts";
import { allRules } from "./rules.ts";
import { type Report, simulate } from "./simulate.ts";
import { requestsOf, type Trace, traces } from "./traces.ts";

const model: EngineModel = {
  stepMs: 20,
  prefillTokenMs: 0.1,
  decodeRowMs: 0.15,
  contextTokenMs: 0.0002,
  maxRows: 32,
  maxBatchedTokens: 1_024,
  kvTokens: 40_000,
  loadMs: 40_000,
};
const replicaLimit = 10;
const seedCount = Number(process.argv[2] ?? 3);

const facts = {
  maxRows: model.maxRows,
  maxReplicas: replicaLimit,
  ttftAimMs: 1_000,
  loadMs: model.loadMs,
};

write(`${seedCount} seeds, replicas load in ${model.loadMs / 1_000} s, at most ${replicaLimit}\n`);
for (const trace of traces) {
  write(`\n| ${trace.name} | TTFT <= 1 s | GPU-seconds | turns/h | TTFT p99 s | lost |`);
  write("|---|---:|---:|---:|---:|---:|");
  for (const [index, { name }] of allRules(facts).entries())
    write(row(name, average(trace, index)));
}

function average(trace: Trace, ruleIndex: number): Report {
  const reports = Array.from({ length: seedCount }, (_, seed) => {
    const rule = allRules(facts)[ruleIndex];
    if (rule === undefined) throw new Error(`no rule ${ruleIndex}`);
    const requests: SimulatedRequest[] = requestsOf(trace, seed + 1);
    return simulate(requests, rule, model, replicaLimit);
  });
  const mean = (value: (report: Report) => number) =>
    reports.reduce((total, report) => total + value(report), 0) / reports.length;
  return {
    attainment: mean((report) => report.attainment),
    gpuSeconds: mean((report) => report.gpuSeconds),
    oscillationsPerHour: mean((report) => report.oscillationsPerHour),
    ttftP99Ms: mean((report) => report.ttftP99Ms),
    lostRequests: mean((report) => report.lostRequests),
    maxReplicas: mean((report) => report.maxReplicas),
  };
}

function row(name: string, report: Report): string {
  const cells = [
    `${(100 * report.attainment).toFixed(1)} %`,
    report.gpuSeconds.toFixed(0),
    report.oscillationsPerHour.toFixed(0),
    (report.ttftP99Ms / 1_000).toFixed(1),
    report.lostRequests.toFixed(0),
  ];
  return `| ${name} | ${cells.join(" | ")} |`;
}

function write(line: string): void {
  process.stdout.write(`${line}\n`);
}
