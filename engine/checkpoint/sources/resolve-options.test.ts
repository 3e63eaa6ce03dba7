import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { formatBytes } from "./resolve-options.ts";

describe("formatBytes", () => {
  it("gives three digits in decimal units", () => {
    const cases: [number, string][] = [
      [0, "0 B"],
      [999, "999 B"],
      [1_000, "1.00 kB"],
      [98_362_432, "98.4 MB"],
      [253_113_024, "253 MB"],
      [999_600, "1.00 MB"],
      [2 ** 52, "4504 TB"],
    ];
    for (const [bytes, text] of cases) assert.equal(formatBytes(bytes), text);
  });
});
