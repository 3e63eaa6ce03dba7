import assert from "node:assert/strict";
import { describe, it } from "node:test";

import fc from "fast-check";

import { StopStrings } from "./stop.ts";

describe("StopStrings", () => {
  it("passes everything at once without stop strings", () => {
    assert.deepEqual(new StopStrings([], false).push("abc"), {
      text: "abc",
      stopString: undefined,
    });
  });

  it("holds back only what may begin a stop string", () => {
    const stops = new StopStrings(["\n\nUser:"], false);

    assert.deepEqual(stops.push("Hi\n"), { text: "Hi", stopString: undefined });
    assert.deepEqual(stops.push("there\n\nUs"), { text: "\nthere", stopString: undefined });
    assert.deepEqual(stops.push("ers"), { text: "\n\nUsers", stopString: undefined });
  });

  it("ends before the stop string, or after it where asked", () => {
    for (const [include, text] of [
      [false, "a"],
      [true, "aEND"],
    ] as const) {
      const stops = new StopStrings(["END"], include);
      stops.push("aE");

      assert.deepEqual(stops.push("ND and more"), {
        text: include ? "END" : "",
        stopString: "END",
      });
      assert.ok(text.startsWith("a"));
    }
  });

  it("gives out what it held when the stream ends otherwise", () => {
    const stops = new StopStrings(["END"], false);
    stops.push("the EN");

    assert.equal(stops.flush(), "EN");
    assert.equal(stops.flush(), "");
  });

  it("finds a stop string that begins inside a failed one", () => {
    const stops = new StopStrings(["aab"], false);

    assert.deepEqual(stops.push("aaab"), { text: "a", stopString: "aab" });
  });

  it("takes the stop string that ends first, and the longest of those that end together", () => {
    assert.equal(new StopStrings(["abcd", "bc"], false).push("abcd").stopString, "bc");
    assert.deepEqual(new StopStrings(["b", "ab"], false).push("xab"), {
      text: "x",
      stopString: "ab",
    });
  });

  it("never depends on how the text was cut into pieces", () => {
    const letters = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 12 });
    const stop = fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(
        fc.array(letters),
        fc.array(stop, { minLength: 1, maxLength: 4 }),
        fc.boolean(),
        (parts, stopStrings, include) => {
          const stops = new StopStrings(stopStrings, include);
          let text = "";
          let found: string | undefined;
          for (const part of parts) {
            const outcome = stops.push(part);
            text += outcome.text;
            found = outcome.stopString;
            if (found !== undefined) break;
          }
          if (found === undefined) text += stops.flush();

          assert.deepEqual({ text, found }, searched(parts.join(""), stopStrings, include));
        },
      ),
    );
  });
});

/** The same by looking at each prefix of the whole text. */
function searched(text: string, stopStrings: readonly string[], include: boolean) {
  for (let end = 1; end <= text.length; end++) {
    const ending = stopStrings.filter((stop) => text.slice(0, end).endsWith(stop));
    const [found] = ending.sort((a, b) => b.length - a.length);
    if (found === undefined) continue;
    return { text: text.slice(0, include ? end : end - found.length), found };
  }
  return { text, found: undefined };
}
