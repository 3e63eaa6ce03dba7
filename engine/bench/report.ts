/** A summary for people: the table that `quire bench` prints, and a plot as SVG. */
import type { RequestRecord } from "./client.ts";
import { type Distribution, gapsOf, type Summary, ttftOf } from "./summary.ts";

export function table(title: string, summary: Summary): string {
  const rows: [string, string][] = [
    ["requests completed, failed", `${summary.completed}, ${summary.failed}`],
    ["wall time", `${summary.wallSeconds.toFixed(1)} s`],
    ["requests", `${summary.requestsPerSecond.toFixed(2)} /s`],
    ["output tokens", `${summary.outputTokensPerSecond.toFixed(1)} /s`],
    ["prompt and output tokens", `${summary.totalTokensPerSecond.toFixed(1)} /s`],
    ["prompt tokens, of them cached", `${summary.promptTokens}, ${summary.cachedTokens}`],
    ["tokens per event", summary.tokensPerEvent.toFixed(2)],
  ];
  if (summary.goodput !== undefined) {
    rows.push(["within the limits", `${(100 * summary.goodput).toFixed(1)} %`]);
  }
  if (summary.wrongLength > 0) {
    rows.push(["answers of another length than asked", String(summary.wrongLength)]);
  }
  const width = Math.max(...rows.map(([name]) => name.length));
  const lines = rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`);
  return [title, ...lines, ...distributions(summary)].join("\n");
}

function distributions(summary: Summary): string[] {
  const columns = ["mean", "p50", "p90", "p95", "p99", "max"] as const;
  const named: [string, Distribution][] = [
    ["TTFT", summary.ttftMs],
    ["ITL", summary.itlMs],
    ["TPOT", summary.tpotMs],
    ["latency", summary.latencyMs],
  ];
  const head = `  ${"ms".padEnd(8)}${columns.map((column) => column.padStart(10)).join("")}`;
  const body = named.map(([name, values]) => {
    const cells = columns.map((column) => values[column].toFixed(1).padStart(10));
    return `  ${name.padEnd(8)}${cells.join("")}`;
  });
  return [head, ...body];
}

const panelWidth = 420;
const panelHeight = 240;
const margin = 44;

/** Cumulative distributions of TTFT and ITL side by side. */
export function plot(title: string, records: readonly RequestRecord[]): string {
  const good = records.filter((record) => record.error === undefined);
  const width = 2 * (panelWidth + margin) + margin;
  const height = panelHeight + 2 * margin;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    `<text x="${margin}" y="20" font-size="14">${escapeXml(title)}</text>`,
    cumulative("time to first token, ms", good.flatMap(ttftOf), margin),
    cumulative("time between tokens, ms", good.flatMap(gapsOf), 2 * margin + panelWidth),
    "</svg>",
    "",
  ].join("\n");
}

function cumulative(label: string, values: readonly number[], left: number): string {
  const sorted = values.toSorted((a, b) => a - b);
  const max = Math.max(1, sorted.at(-1) ?? 1);
  const step = Math.max(1, Math.floor(sorted.length / panelWidth));
  const points = sorted
    .map((value, index) => [value, (index + 1) / sorted.length] as const)
    .filter((_, index) => index % step === 0 || index === sorted.length - 1)
    .map(([value, share]) => {
      const x = left + (value / max) * panelWidth;
      const y = margin + (1 - share) * panelHeight;
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    });
  const bottom = margin + panelHeight;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const x = left + share * panelWidth;
    return `<text x="${x}" y="${bottom + 16}" text-anchor="middle">${(share * max).toFixed(0)}</text>`;
  });
  return [
    `<rect x="${left}" y="${margin}" width="${panelWidth}" height="${panelHeight}" fill="none" stroke="#999"/>`,
    `<polyline points="${points.join(" ")}" fill="none" stroke="#0b62a4" stroke-width="1.5"/>`,
    ...ticks,
    `<text x="${left + panelWidth / 2}" y="${bottom + 34}" text-anchor="middle">${label}</text>`,
  ].join("\n");
}

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
