type Fields = Readonly<Record<string, unknown>>;

/**
 * Lays a user's fields over those of a pod, as a strategic merge does: maps are merged field by
 * field, lists of named things by name, other lists are joined, and everything else is replaced.
 */
export function laidOver(base: Fields, overlay: Fields): Fields {
  const merged: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(overlay)) merged[name] = merge(base[name], value);
  return merged;
}

function merge(base: unknown, overlay: unknown): unknown {
  if (Array.isArray(base) && Array.isArray(overlay)) return joined(base, overlay);
  return isFields(base) && isFields(overlay) ? laidOver(base, overlay) : overlay;
}

function joined(base: readonly unknown[], overlay: readonly unknown[]): unknown[] {
  const result = [...base];
  for (const item of overlay) {
    const name = nameOf(item);
    const index = name === undefined ? -1 : result.findIndex((known) => nameOf(known) === name);
    if (index < 0) result.push(item);
    else result[index] = merge(result[index], item);
  }
  return result;
}

function nameOf(item: unknown): unknown {
  return isFields(item) ? item["name"] : undefined;
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
