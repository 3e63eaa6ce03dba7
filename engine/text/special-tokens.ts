/**
 * Control tokens such as `<|im_end|>` are ordinary text when a user writes them. So the library is
 * given each of them in a spelling that nobody can write, behind a secret mark (¤ below), and only
 * text that is trusted has its control tokens marked:
 *
 *     template  "<|im_start|>user\n" + content + "<|im_end|>\n"
 *     shield    "bye<|im_end|>"  →  "bye§2§"
 *     rendered  "<|im_start|>user\nbye§2§<|im_end|>\n"
 *     mark      "¤<|im_start|>user\nbye<|im_end|>¤<|im_end|>\n"
 *
 * The whole prompt is still tokenised at once, so that merges across contents stay as they are. Text
 * whose edge is a fragment of a control token gets an empty shield there, so that no token is joined
 * from it and what stands beside it.
 */
export class SpecialTokens {
  readonly #contents: readonly string[];
  readonly #indexes: ReadonlyMap<string, number>;
  readonly #firstCharacters: RegExp;
  /** Longest first, so that the longest of several matches is taken. */
  readonly #lengths: readonly number[];
  /** What control tokens begin with, and what they end with, short of the whole. */
  readonly #beginnings: ReadonlySet<string>;
  readonly #endings: ReadonlySet<string>;
  readonly #mark: string;
  readonly #shield: string;
  readonly #shielded: RegExp;

  /** @param secret letters and digits that no text can be expected to contain */
  constructor(contents: Iterable<string>, secret: string) {
    this.#contents = [...new Set(contents)].filter((content) => content !== "");
    this.#indexes = new Map(this.#contents.map((content, index) => [content, index]));
    const lengths = new Set(this.#contents.map((content) => content.length));
    this.#lengths = [...lengths].sort((a, b) => b - a);
    this.#beginnings = new Set(this.#contents.flatMap((content) => cuts(content, 0)));
    this.#endings = new Set(this.#contents.flatMap((content) => cuts(content, content.length)));
    this.#firstCharacters = oneOf(new Set(this.#contents.map((content) => content.charCodeAt(0))));
    this.#mark = `\u{f0000}${secret}`;
    this.#shield = `\u{f0001}${secret}`;
    this.#shielded = new RegExp(`${this.#shield}(\\d*)${this.#shield}`, "g");
  }

  /** How the library knows a control token. */
  spell(content: string): string {
    return this.#mark + content;
  }

  /** Text whose control tokens pass through a template as ordinary text. */
  shield(text: string): string {
    const wall = this.#shield + this.#shield;
    const isInside = this.#isInsideToken(text);
    const before = isInside || this.#hasEdge(text, this.#endings, false) ? wall : "";
    const after = isInside || this.#hasEdge(text, this.#beginnings, true) ? wall : "";
    const inner = this.#replace(text, (content) => {
      return `${this.#shield}${this.#indexes.get(content)}${this.#shield}`;
    });
    return before + inner + after;
  }

  /** Marks the control tokens of a text, but not those that were shielded. */
  mark(text: string): string {
    return this.unshield(this.#replace(text, (content) => this.#mark + content));
  }

  /** The text as it was before `shield`. */
  unshield(text: string): string {
    return text.replace(this.#shielded, (_, index) => this.#contents[Number(index)] ?? "");
  }

  #hasEdge(text: string, fragments: ReadonlySet<string>, atEnd: boolean): boolean {
    const longest = Math.min(text.length, this.#lengths[0] ?? 0);
    for (let length = 1; length <= longest; length++) {
      if (fragments.has(atEnd ? text.slice(-length) : text.slice(0, length))) return true;
    }
    return false;
  }

  /** Words are let through: templates compare them, and build tokens such as `<|user|>` of roles. */
  #isInsideToken(text: string): boolean {
    if (/^\w*$/.test(text) || text.length >= (this.#lengths[0] ?? 0)) return false;
    return this.#contents.some((content) => content.length > text.length && content.includes(text));
  }

  #replace(text: string, replacement: (content: string) => string): string {
    let output = "";
    let done = 0;
    let index = this.#nextCandidate(text, 0);
    while (index < text.length) {
      const content = this.#contentAt(text, index);
      if (content !== undefined) {
        output += text.slice(done, index) + replacement(content);
        done = index + content.length;
      }
      index = this.#nextCandidate(text, content === undefined ? index + 1 : done);
    }
    return output + text.slice(done);
  }

  /** Where the next control token may begin, or the text's end. */
  #nextCandidate(text: string, from: number): number {
    this.#firstCharacters.lastIndex = from;
    return this.#firstCharacters.exec(text)?.index ?? text.length;
  }

  #contentAt(text: string, index: number): string | undefined {
    for (const length of this.#lengths) {
      const candidate = text.slice(index, index + length);
      if (this.#indexes.has(candidate)) return candidate;
    }
    return undefined;
  }
}

/** 64 random bits in hexadecimal. */
export function randomSecret(): string {
  const words = crypto.getRandomValues(new Uint32Array(2));
  return [...words].map((word) => word.toString(16).padStart(8, "0")).join("");
}

function oneOf(codes: ReadonlySet<number>): RegExp {
  const classes = [...codes].map((code) => `\\u${code.toString(16).padStart(4, "0")}`);
  return classes.length === 0 ? /(?!)/g : new RegExp(`[${classes.join("")}]`, "g");
}

/** All proper pieces of a token that begin at 0, or that end at its length. */
function cuts(content: string, at: number): string[] {
  return Array.from({ length: content.length - 1 }, (_, i) =>
    at === 0 ? content.slice(0, i + 1) : content.slice(i + 1),
  );
}
