const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/**
 * A duration as the custom resources write it, such as `800ms` or `1h30m`, in milliseconds.
 *
 * @throws RangeError for text that the CRDs' rules do not let through
 */
export function durationMs(duration: string): number {
  if (!/^(\d+(ms|s|m|h))+$/.test(duration)) throw new RangeError(`"${duration}" is no duration`);
  return [...duration.matchAll(/(\d+)(ms|s|m|h)/g)]
    .map(([, count, unit]) => Number(count) * (unitMs[unit ?? ""] ?? 0))
    .reduce((total, ms) => total + ms, 0);
}
