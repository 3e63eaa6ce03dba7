/** What a stream of text may give out, and which stop string ended it. */
export interface StopOutcome {
  /** Text that can no longer be part of a stop string. */
  readonly text: string;
  /** The stop string that the stream ran into; the rest of the stream is void. */
  readonly stopString: string | undefined;
}

interface Matcher {
  readonly stopString: string;
  /** Of each prefix, the length of its longest proper prefix that is also its suffix. */
  readonly fallbacks: Int32Array;
  /** Characters of the stop string that the stream's end may be the beginning of. */
  matched: number;
}

/**
 * Looks for stop strings in a stream of text, and holds back exactly the text that may still turn
 * out to begin one. The stop string that ends first wins, the longest of those that end together.
 *
 * Source: Knuth, Morris and Pratt, Fast pattern matching in strings (1977).
 */
export class StopStrings {
  readonly #matchers: readonly Matcher[];
  readonly #includeInOutput: boolean;
  #held = "";

  /**
   * @param stopStrings none of them empty
   * @param includeInOutput gives out the stop string itself as well
   */
  constructor(stopStrings: readonly string[], includeInOutput: boolean) {
    this.#matchers = stopStrings.map((stopString) => ({
      stopString,
      fallbacks: fallbacksOf(stopString),
      matched: 0,
    }));
    this.#includeInOutput = includeInOutput;
  }

  push(text: string): StopOutcome {
    if (this.#matchers.length === 0) return { text, stopString: undefined };
    const all = this.#held + text;
    for (let i = this.#held.length; i < all.length; i++) {
      const found = this.#advance(all.charCodeAt(i));
      if (found === undefined) continue;
      this.#held = "";
      const end = i + 1 - (this.#includeInOutput ? 0 : found.length);
      return { text: all.slice(0, end), stopString: found };
    }
    const heldLength = Math.max(...this.#matchers.map(({ matched }) => matched));
    this.#held = all.slice(all.length - heldLength);
    return { text: all.slice(0, all.length - heldLength), stopString: undefined };
  }

  /** The stream ended for another reason: what was held back is ordinary text. */
  flush(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }

  /** Feeds one UTF-16 unit to every matcher. */
  #advance(unit: number): string | undefined {
    let found: string | undefined;
    for (const matcher of this.#matchers) {
      const { stopString, fallbacks } = matcher;
      matcher.matched = nextMatched(stopString, fallbacks, matcher.matched, unit);
      const isWhole = matcher.matched === stopString.length;
      if (isWhole && stopString.length > (found?.length ?? 0)) found = stopString;
    }
    return found;
  }
}

function nextMatched(
  stopString: string,
  fallbacks: Int32Array,
  matched: number,
  unit: number,
): number {
  let length = matched;
  while (length > 0 && stopString.charCodeAt(length) !== unit) length = fallbacks[length - 1] ?? 0;
  return stopString.charCodeAt(length) === unit ? length + 1 : length;
}

function fallbacksOf(stopString: string): Int32Array {
  const fallbacks = new Int32Array(stopString.length);
  for (let i = 1; i < stopString.length; i++) {
    const before = fallbacks[i - 1] ?? 0;
    fallbacks[i] = nextMatched(stopString, fallbacks, before, stopString.charCodeAt(i));
  }
  return fallbacks;
}
