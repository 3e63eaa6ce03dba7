/**
 * SentencePiece joins, again and again, the two neighbours whose joined piece has the best score.
 * Byte-pair encoding does the same with a list of pairs, best first: for each piece, all the ways to
 * cut it into two pieces.
 *
 * @param texts piece of each id
 * @param scores of each id; higher joins first
 * @param isText whether an id may take part, which control and byte tokens may not
 * @returns pairs, best first; equal scores in the order of ids, longer left halves first
 */
export function scoredMerges(
  texts: readonly string[],
  scores: Float32Array,
  isText: (id: number) => boolean,
): [string, string][] {
  const pieces = new Set(texts.filter((text, id) => text !== "" && isText(id)));
  const order = Uint32Array.from(texts.keys())
    .filter((id) => pieces.has(texts[id] ?? "") && isText(id))
    .sort((a, b) => (scores[b] ?? 0) - (scores[a] ?? 0) || a - b);
  const merges: [string, string][] = [];
  for (const id of order) {
    const text = texts[id] ?? "";
    for (let cut = text.length - 1; cut > 0; cut--) {
      const left = text.slice(0, cut);
      if (!pieces.has(left)) continue;
      const right = text.slice(cut);
      if (pieces.has(right)) merges.push([left, right]);
    }
  }
  return merges;
}
