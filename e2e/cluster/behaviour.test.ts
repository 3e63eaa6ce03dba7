import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseBehaviour, wordsOfModel } from "./behaviour.ts";

describe("behaviour", () => {
  it("is quick and healthy without words", () => {
    const { startMs, loadMs, drainMs, end, ...rest } = parseBehaviour("");

    assert.ok(Math.max(startMs, loadMs, drainMs) <= 100);
    assert.equal(end, undefined);
    const load = { kv: 0, running: 0, waiting: 0 };
    assert.deepEqual(rest, { once: false, imageMissing: false, silent: false, load });
  });

  it("takes each word", () => {
    const words = "start=1,load=2,drain=3,crash=4,once,image,silent,kv=0.5,running=6,waiting=7";

    assert.deepEqual(parseBehaviour(words), {
      startMs: 1,
      loadMs: 2,
      drainMs: 3,
      end: { cause: "crash", afterMs: 4 },
      once: true,
      imageMissing: true,
      silent: true,
      load: { kv: 0.5, running: 6, waiting: 7 },
    });
  });

  it("knows loading that never ends, and an end by memory at once", () => {
    assert.equal(parseBehaviour("stall").loadMs, Number.POSITIVE_INFINITY);
    assert.deepEqual(parseBehaviour("oom").end, { cause: "oom", afterMs: 0 });
  });

  it("refuses other words", () => {
    assert.throws(() => parseBehaviour("load=1,craash"), /"craash" is no behaviour/);
    assert.throws(() => parseBehaviour("load=soon"), /"load=soon" is no behaviour/);
  });

  it("is read from the last part of a model's path, and from nothing else", () => {
    assert.equal(wordsOfModel("/models/load=500,crash"), "load=500,crash");
    assert.equal(wordsOfModel("owner/SmolLM2"), "");
    assert.equal(wordsOfModel(""), "");
  });
});
