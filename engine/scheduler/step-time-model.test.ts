import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  addDecode,
  addPrefill,
  emptyLoad,
  type StepLoad,
  StepTimeModel,
} from "./step-time-model.ts";

describe("StepTimeModel", () => {
  it("learns what each kind of work costs", () => {
    const model = new StepTimeModel();
    for (let i = 0; i < 300; i++) observe(model, mixedLoad(i), costMs);

    for (const load of [
      aLoad({ rows: 8 }),
      aLoad({ prefill: 700 }),
      aLoad({ rows: 50, prefill: 300 }),
    ]) {
      const expected = costMs(load);
      const predicted = model.predictMs(load);
      assert.ok(Math.abs(predicted - expected) < 0.02 * expected, `${predicted} of ${expected}`);
    }
  });

  it("is not believed before it has seen some steps", () => {
    const model = new StepTimeModel();
    for (let i = 0; i < 15; i++) observe(model, mixedLoad(i), costMs);
    assert.equal(model.isReady, false);

    observe(model, mixedLoad(15), costMs);

    assert.equal(model.isReady, true);
  });

  it("follows a machine that becomes slower", () => {
    const model = new StepTimeModel();
    for (let i = 0; i < 300; i++) observe(model, mixedLoad(i), costMs);
    for (let i = 0; i < 500; i++) observe(model, mixedLoad(i), (load) => 3 * costMs(load));

    const load = aLoad({ rows: 20, prefill: 200 });
    const expected = 3 * costMs(load);
    assert.ok(Math.abs(model.predictMs(load) - expected) < 0.1 * expected);
  });

  it("still knows what prefill costs after many steps that only decode", () => {
    const model = new StepTimeModel();
    for (let i = 0; i < 300; i++) observe(model, mixedLoad(i), costMs);
    const load = aLoad({ rows: 16, prefill: 400 });
    for (let i = 0; i < 20_000; i++) {
      // Noise of a tenth, without which nothing could drift.
      observe(model, aLoad({ rows: 16 }), (seen) => costMs(seen) * (1 + ((i % 21) - 10) / 100));
    }

    const expected = costMs(load);
    const predicted = model.predictMs(load);
    assert.ok(Math.abs(predicted - expected) < 0.15 * expected, `${predicted} of ${expected}`);
  });

  it("is not thrown off by a single step that took very long", () => {
    const model = new StepTimeModel();
    for (let i = 0; i < 100; i++) observe(model, mixedLoad(i), costMs);
    const load = mixedLoad(3);
    observe(model, load, () => 10_000);

    assert.ok(model.predictMs(load) < 1.5 * costMs(load));
  });

  it("stays sane when every step takes equally long", () => {
    const model = new StepTimeModel();
    observe(model, aLoad({ prefill: 8192 }), () => 8);
    for (let rows = 8; rows < 256; rows++) {
      const load = aLoad({ rows, context: 1000 + rows, prefill: 256 });
      observe(model, load, () => 8);
      const predicted = model.predictMs(load);
      assert.ok(Math.abs(predicted - 8) < 1, `${predicted} of 8 with ${rows} rows`);
    }
    assert.ok(model.predictMs(aLoad({ rows: 100, prefill: 4000 })) < 12);
  });

  it("predicts within the range of the times it saw, whatever they were", () => {
    let state = 1;
    const random = (limit: number): number => {
      state = Math.imul(state, 1664525) + 1013904223;
      return ((state >>> 8) % 1000) * (limit / 1000);
    };
    for (let trial = 0; trial < 20; trial++) {
      const model = new StepTimeModel();
      for (let i = 0; i < 500; i++) {
        const load = aLoad({
          rows: Math.floor(random(trial * 4)),
          context: Math.floor(random(4000)),
          prefill: Math.floor(random(trial * 100)),
        });
        observe(model, load, () => 5 + random(20));
        assert.ok(model.predictMs(load) < 100, `${model.predictMs(load)} in trial ${trial}`);
      }
    }
  });

  it("never predicts less time for more work", () => {
    const model = new StepTimeModel();
    for (let i = 0; i < 200; i++) {
      // Steps with more prefill that happen to be faster.
      observe(model, mixedLoad(i), (load) => 20 - load.prefillTokens / 100);
    }

    const few = model.predictMs(aLoad({ rows: 8, prefill: 10 }));
    assert.ok(model.predictMs(aLoad({ rows: 8, prefill: 900 })) >= few);
  });

  it("says how much prefill fits, from what is planned and from where it starts", () => {
    const model = new StepTimeModel();
    for (let i = 0; i < 300; i++) observe(model, mixedLoad(i), costMs);
    const load = aLoad({ rows: 8, prefill: 100 });

    for (const start of [0, 20_000]) {
      const count = model.prefillWithin(load, start, 2000, 25);
      assert.ok(predictWith(model, load, start, count) <= 25);
      assert.ok(predictWith(model, load, start, count + 1) > 25);
    }
    assert.equal(model.prefillWithin(load, 0, 5, 25), 5, "no more than is wanted");
    assert.equal(model.prefillWithin(load, 0, 2000, 1), 0, "nothing where nothing fits");
  });
});

describe("StepLoad", () => {
  it("counts the tokens that each token attends to, itself included", () => {
    const load = emptyLoad();
    addDecode(load, 9);
    addPrefill(load, 2, 3);

    assert.deepEqual(load, {
      decodeRows: 1,
      decodeContext: 10,
      prefillTokens: 3,
      prefillContext: 3 + 4 + 5,
    });
  });
});

function costMs(load: StepLoad): number {
  const { prefillTokens, decodeRows, decodeContext, prefillContext } = load;
  return 3 + 0.02 * prefillTokens + 0.05 * decodeRows + decodeContext / 1e4 + prefillContext / 1e6;
}

function observe(model: StepTimeModel, load: StepLoad, cost: (load: StepLoad) => number): void {
  model.observe(load, cost(load));
}

function predictWith(model: StepTimeModel, load: StepLoad, start: number, count: number): number {
  const with_ = { ...load };
  addPrefill(with_, start, count);
  return model.predictMs(with_);
}

/** Loads that vary in every direction. */
function mixedLoad(i: number): StepLoad {
  return aLoad({
    rows: (i * 7) % 60,
    context: 100 + ((i * 131) % 3000),
    prefill: i % 3 === 0 ? 0 : (i * 37) % 1000,
    start: (i * 977) % 30_000,
  });
}

function aLoad({ rows = 0, context = 500, prefill = 0, start = 0 }): StepLoad {
  const load = emptyLoad();
  for (let i = 0; i < rows; i++) addDecode(load, context);
  addPrefill(load, start, prefill);
  return load;
}
