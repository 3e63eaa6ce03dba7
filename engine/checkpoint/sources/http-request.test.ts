import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { parseRetryAfter, redirectTarget } from "./http-request.ts";
import { failure } from "./testing.ts";

describe("redirectTarget", () => {
  it("resolves against the URL that redirects", () => {
    const from = new URL("https://hub.example/a/b?c");
    assert.equal(redirectTarget("/d", from).href, "https://hub.example/d");
    assert.equal(redirectTarget("https://store.example/e", from).href, "https://store.example/e");
    const local = new URL("http://127.0.0.1:8080/a");
    assert.equal(redirectTarget("http://localhost/b", local).href, "http://localhost/b");
  });

  it("does not go from https:// to http://, not even to this machine", () => {
    const from = new URL("https://hub.example/a");
    for (const location of ["http://hub.example/a", "http://127.0.0.1/a"]) {
      assert.throws(
        () => redirectTarget(location, from),
        failure("MODEL_SOURCE_FAILED", /redirects to http:.*, which is not encrypted/),
      );
    }
  });
});

describe("parseRetryAfter", () => {
  it("reads seconds and dates, and takes anything else for no pause", () => {
    const now = Date.UTC(2030, 0, 1);
    const cases: [string | null, number][] = [
      [null, 0],
      ["0", 0],
      ["120", 120_000],
      ["Tue, 01 Jan 2030 00:00:30 GMT", 30_000],
      ["Mon, 31 Dec 2029 23:59:00 GMT", 0],
      ["soon", 0],
      ["-5", 0],
    ];
    for (const [value, milliseconds] of cases) {
      assert.equal(parseRetryAfter(value, now), milliseconds, `${value}`);
    }
  });
});
