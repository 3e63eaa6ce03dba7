import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { InFlight } from "./in-flight.ts";

describe("InFlight", () => {
  it("counts each request once, however often it is said to have ended", () => {
    const inFlight = new InFlight();
    const leave = inFlight.enter("a");
    inFlight.enter("a");
    inFlight.enter("b");
    assert.deepEqual([inFlight.of("a"), inFlight.of("b"), inFlight.of("c")], [2, 1, 0]);

    leave();
    leave();

    assert.deepEqual([inFlight.of("a"), inFlight.of("b")], [1, 1]);
  });
});
