/** Columns as kubectl sets them: as wide as their widest cell, three spaces apart. */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const lines = [header, ...rows];
  const widths = header.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  const format = (line: readonly string[]) =>
    line
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join("   ")
      .trimEnd();
  return `${lines.map(format).join("\n")}\n`;
}

/** An age as kubectl writes it: `45s`, `3m5s`, `12m`, `5h`, `4d`. */
export function formatAge(since: string | undefined, nowMs: number): string {
  if (since === undefined) return "-";
  const seconds = Math.max(0, Math.floor((nowMs - Date.parse(since)) / 1_000));
  const minutes = Math.floor(seconds / 60);
  if (seconds < 120) return `${seconds}s`;
  if (minutes < 10) return seconds % 60 === 0 ? `${minutes}m` : `${minutes}m${seconds % 60}s`;
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours}h` : `${Math.floor(hours / 24)}d`;
}
