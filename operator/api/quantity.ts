const multipliers: Readonly<Record<string, bigint>> = {
  m: 1n,
  "": 1_000n,
  k: 1_000n ** 2n,
  M: 1_000n ** 3n,
  G: 1_000n ** 4n,
  T: 1_000n ** 5n,
  Ki: 1_000n * 1024n,
  Mi: 1_000n * 1024n ** 2n,
  Gi: 1_000n * 1024n ** 3n,
  Ti: 1_000n * 1024n ** 4n,
};

/**
 * A Kubernetes quantity, such as `500m`, `1.5` or `32Gi`, in thousandths.
 *
 * @throws RangeError for text that the CRD's patterns do not let through
 */
export function quantityMillis(quantity: string | number): bigint {
  const match = /^(\d+)(?:\.(\d{1,3}))?([a-zA-Z]*)$/.exec(String(quantity));
  const multiplier = multipliers[match?.[3] ?? "?"];
  if (match === null || multiplier === undefined) {
    throw new RangeError(`"${quantity}" is not a quantity`);
  }
  const thousandths = BigInt((match[1] ?? "") + (match[2] ?? "").padEnd(3, "0"));
  return (thousandths * multiplier) / 1_000n;
}
