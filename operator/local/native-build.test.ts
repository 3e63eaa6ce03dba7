import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { missingTools, percentOf } from "./native-build.ts";

describe("missingTools", () => {
  it("names the Debian package of each tool that does not run", () => {
    assert.deepEqual(
      missingTools(() => true),
      [],
    );
    assert.deepEqual(
      missingTools(([program, ...args]) => program !== "g++" && !args.includes("pip")),
      [
        "a C++ compiler (g++) is missing: install it with apt-get install -y g++",
        "pip is missing: install it with apt-get install -y python3-pip",
      ],
    );
  });
});

describe("percentOf", () => {
  it("reads what ninja and make tell of their progress", () => {
    assert.deepEqual(
      [
        "[12/34] Building CXX object",
        "[ 35%] Building",
        "[100%] Built target",
        "warning: [1/2]",
      ].map(percentOf),
      [35, 35, 100, undefined],
    );
  });
});
