/** What rounds of both engines come to. */
import type { Job, JobResult } from "./peer.ts";

export interface Measure {
  readonly name: string;
  readonly job: Job;
  /** Tokens per second. */
  readonly rateOf: (result: JobResult) => number;
  /** Least share of llama.cpp's rate, by the format of the weights. */
  readonly target: Readonly<Record<string, number>>;
}

export interface Round {
  readonly name: string;
  readonly rate: number;
  readonly cpuSeconds: number;
  /** Seconds of processors that other processes took, or the hypervisor. */
  readonly otherSeconds: number;
}

export interface Rounds {
  readonly quire: Round[];
  readonly llama: Round[];
  /** Tokens before the first that differs, as a share of all. */
  readonly agreement: number[];
}

/** Roundings differ, so answers part sooner or later; wrong weights or prompts part at once. */
export function agreementOf(a: JobResult | undefined, b: JobResult | undefined): number {
  let alike = 0;
  let all = 0;
  for (const [i, { tokenIds }] of (a?.answers ?? []).entries()) {
    const other = b?.answers[i]?.tokenIds ?? [];
    const parted = tokenIds.findIndex((tokenId, place) => tokenId !== other[place]);
    alike += parted === -1 ? tokenIds.length : parted;
    all += tokenIds.length;
  }
  return alike / all;
}

export function reportOf(format: string, measures: readonly Measure[], rounds: Rounds): string {
  const head = ["tokens/s", "Quire min/med/max", "llama.cpp min/med/max", "CPU-s each", "others"];
  const rows = measures.map((measure) => rowOf(format, measure, rounds));
  const lines = [[...head, "x (medians)", "x (best)", "x (CPU-s)", "target"], ...rows].map(
    ([name = "", quire = "", llama = "", ...cells]) =>
      [name.padEnd(12), quire.padStart(22), llama.padStart(23), ...cells.map(aligned)].join(""),
  );
  const mean = rounds.agreement.reduce((sum, share) => sum + share, 0) / rounds.agreement.length;
  const alike = `answers are alike for ${(100 * mean).toFixed(0)} % of their tokens`;
  return [...lines, `${rounds.quire.length / measures.length} rounds; ${alike}`].join("\n");
}

function rowOf(format: string, { name, target }: Measure, rounds: Rounds): readonly string[] {
  const quire = rounds.quire.filter((round) => round.name === name);
  const llama = rounds.llama.filter((round) => round.name === name);
  const [ours, theirs] = [spread(quire.map(rateOf)), spread(llama.map(rateOf))];
  const least = target[format];
  const others = [...quire, ...llama].reduce((sum, round) => sum + round.otherSeconds, 0);
  return [
    name,
    textOf(ours),
    textOf(theirs),
    [quire, llama].map((side) => Math.min(...cpuOf(side)).toFixed(2)).join(" / "),
    others.toFixed(1),
    (ours.median / theirs.median).toFixed(2),
    (ours.max / theirs.max).toFixed(2),
    (Math.min(...cpuOf(llama)) / Math.min(...cpuOf(quire))).toFixed(2),
    least === undefined ? "" : `>= ${least.toFixed(2)}`,
  ];
}

interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const [min = Number.NaN] = sorted;
  const median = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  return { min, median, max: sorted.at(-1) ?? Number.NaN };
}

function cpuOf(rounds: readonly Round[]): readonly number[] {
  return rounds.map(({ cpuSeconds }) => cpuSeconds);
}

function rateOf({ rate }: Round): number {
  return rate;
}

function textOf({ min, median, max }: Spread): string {
  return [min, median, max].map((value) => value.toFixed(1)).join(" / ");
}

function aligned(cell: string): string {
  return cell.padStart(14);
}
