import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { decide, type ScalingSettings, type ScalingState } from "./policy.ts";
import { type Observation, type ReplicaSample, Window } from "./window.ts";

describe("decide", () => {
  it("adds as many replicas as the demand needs at 0.85 of their capacity", () => {
    // Three times 10,000 tokens in use; a replica holds 0.8 * 10,000 = 8,000.
    const window = watched([{ tokens: [10_000, 10_000, 10_000] }]);

    const decision = decide(settings({ maxReplicas: 9 }), window, state(3), now(window));

    assert.equal(decision.desiredReplicas, 5); // ceil(30,000 / 6,800)
    assert.match(decision.reason, /demand 30k tokens \/ 0\.85 needs 5 of 8000/);
  });

  it("adds nothing at exactly the threshold, and one just above it", () => {
    const at = watched([{ tokens: [6_800] }]);
    const above = watched([{ tokens: [6_801] }]);

    assert.equal(decide(settings(), at, state(1), now(at)).desiredReplicas, 1);
    assert.equal(decide(settings(), above, state(1), now(above)).desiredReplicas, 2);
  });

  it("counts a waiting request as what a running one holds, or its prompt if that is more", () => {
    const small = watched([{ tokens: [1_000], running: 1, waiting: 3, waitingPrompt: 30 }]);
    const large = watched([{ tokens: [1_000], running: 1, waiting: 3, waitingPrompt: 9_000 }]);

    assert.equal(small.demand.at(-1)?.tokens, 4_000);
    assert.equal(large.demand.at(-1)?.tokens, 10_000);
  });

  it("counts loading replicas as supply", () => {
    const window = watched([{ tokens: [13_000], pending: 1 }]);

    assert.equal(decide(settings(), window, state(2), now(window)).desiredReplicas, 2);
  });

  it("never grows past the factor in one step, but always by one", () => {
    const window = watched([{ tokens: [80_000] }]);
    const wide = settings({ maxReplicas: 50, scaleUpMaxFactor: 4 });
    const narrow = settings({ maxReplicas: 50, scaleUpMaxFactor: 1 });

    assert.equal(decide(wide, window, state(1), now(window)).desiredReplicas, 4);
    assert.equal(decide(narrow, window, state(1), now(window)).desiredReplicas, 2);
  });

  it("learns what a replica can hold when rows, not memory, saturate it", () => {
    const saturated = { tokens: [1_000], running: 4, waiting: 8, waitingPrompt: 800 };
    const once = watched([saturated]);
    const twice = watched([saturated, saturated]);

    assert.equal(decide(settings(), once, state(1), now(once)).desiredReplicas, 1);
    // 1,000 in use and 8 waiting of 250 each, over 0.85 * 1,000.
    assert.equal(decide(settings(), twice, state(1), now(twice)).desiredReplicas, 4);
  });

  it("adds replicas for a backlog that would miss the aim for the first token", () => {
    const window = watched([
      { tokens: [100], running: 1, waiting: 1, waitingPrompt: 4_000, prefillRate: 2_000 },
    ]);

    const decision = decide(settings({ ttftMs: 1_000 }), window, state(1), now(window));

    assert.equal(decision.desiredReplicas, 4); // 4,000 / (2,000 * 0.5 s)
    assert.match(decision.reason, /4000 waiting prompt tokens at 2000\/s need 4 for 1000 ms/);
  });

  it("adds replicas when rows share a decode rate too thinly, not for one request alone", () => {
    const many = watched([{ tokens: [100], running: 10, decodeRate: 100 }]);
    const alone = watched([{ tokens: [100], running: 1, decodeRate: 10 }]);

    assert.equal(decide(settings({ itlMs: 50 }), many, state(1), now(many)).desiredReplicas, 2);
    assert.equal(decide(settings({ itlMs: 50 }), alone, state(1), now(alone)).desiredReplicas, 1);
  });

  it("removes one replica when the whole window would have fitted on fewer", () => {
    const window = watched(Array.from({ length: 61 }, () => ({ tokens: [100, 100, 100] })));

    assert.equal(decide(settings(), window, state(3), now(window)).desiredReplicas, 2);
  });

  it("removes nothing before it has watched for the whole window", () => {
    const window = watched(Array.from({ length: 60 }, () => ({ tokens: [100, 100, 100] })));

    const decision = decide(settings(), window, state(3), now(window));

    assert.equal(decision.desiredReplicas, 3);
    assert.match(decision.reason, /watched for less than 60 s/);
  });

  it("keeps a replica that the window's highest demand needed", () => {
    const quiet = Array.from({ length: 61 }, () => ({ tokens: [100, 100] }));
    quiet[5] = { tokens: [5_601, 0] }; // more than 0.7 * 8,000
    const window = watched(quiet);

    const decision = decide(settings(), window, state(2), now(window));

    assert.equal(decision.desiredReplicas, 2);
    assert.match(decision.reason, /highest demand of 60 s, 5601 tokens/);
  });

  it("waits for the period between two steps down", () => {
    const window = watched(Array.from({ length: 61 }, () => ({ tokens: [100, 100, 100] })));
    const recent = { ...state(3), lastScaleDownMs: now(window) - 29_000 };
    const old = { ...state(3), lastScaleDownMs: now(window) - 30_000 };

    const held = decide(settings(), window, recent, now(window));
    assert.equal(held.desiredReplicas, 3);
    assert.match(held.reason, /next step down in 1 s/);
    assert.equal(decide(settings(), window, old, now(window)).desiredReplicas, 2);
  });

  it("keeps a replica whose removal would slow tokens to nine tenths of the aim", () => {
    const look = { tokens: [100, 100], running: 4, decodeRate: 160 }; // 25 ms, 50 ms on one
    const window = watched(Array.from({ length: 61 }, () => look));

    const kept = decide(settings({ itlMs: 55 }), window, state(2), now(window));
    const removed = decide(settings({ itlMs: 56 }), window, state(2), now(window));

    assert.equal(kept.desiredReplicas, 2);
    assert.match(kept.reason, /one fewer would take 50\.0 ms between tokens, aim 55 ms/);
    assert.equal(removed.desiredReplicas, 1);
  });

  it("holds when every sample is stale, and says so", () => {
    const window = watched([{ tokens: [50_000] }]);

    const decision = decide(settings(), window, state(1), now(window) + 5_001);

    assert.equal(decision.desiredReplicas, 1);
    assert.equal(decision.fresh, false);
    assert.match(decision.reason, /1 replica held: no replica reported in the last 5 s/);
  });

  it("treats fresh samples without traffic as zero demand, not as staleness", () => {
    const window = watched(Array.from({ length: 61 }, () => ({ tokens: [0, 0] })));

    const decision = decide(settings(), window, state(2), now(window));

    assert.equal(decision.desiredReplicas, 1);
    assert.equal(decision.fresh, true);
  });

  it("grows on a partial view but never shrinks on one", () => {
    const busy = watched([{ tokens: [20_000], ready: 2 }]);
    const idle = watched(Array.from({ length: 61 }, () => ({ tokens: [0], ready: 2 })));

    assert.equal(decide(settings(), busy, state(2), now(busy)).desiredReplicas, 3);
    const held = decide(settings(), idle, state(2), now(idle));
    assert.equal(held.desiredReplicas, 2);
    assert.match(held.reason, /1 of 2 replicas report/);
  });

  it("holds while no replica is ready", () => {
    const window = watched([{ tokens: [], ready: 0, pending: 2 }]);

    const decision = decide(settings(), window, state(2), now(window));

    assert.equal(decision.desiredReplicas, 2);
    assert.match(decision.reason, /none is ready yet, 2 loading/);
  });

  it("clamps to the service's bounds and names the bound", () => {
    const window = watched([{ tokens: [90_000] }]);

    const most = decide(settings({ maxReplicas: 2 }), window, state(1), now(window));
    assert.deepEqual([most.desiredReplicas, most.boundBy], [2, "MaxReplicas"]);
    assert.match(most.reason, /maxReplicas allows 2/);
    const policy = decide(settings({ policyLimit: 3 }), window, state(1), now(window));
    assert.deepEqual([policy.desiredReplicas, policy.boundBy], [3, "Policy"]);
    const least = decide(settings({ minReplicas: 3 }), watched([{ tokens: [0] }]), state(1), 1_000);
    assert.deepEqual([least.desiredReplicas, least.boundBy], [3, "MinReplicas"]);
  });

  it("stays at what the cluster has room for, and still shrinks under it", () => {
    const busy = watched([{ tokens: [10_000, 10_000] }]);
    const idle = watched(Array.from({ length: 61 }, () => ({ tokens: [0, 0] })));
    const limited = { ...state(2), capacityLimit: 2 };

    const held = decide(settings(), busy, limited, now(busy));
    assert.deepEqual([held.desiredReplicas, held.boundBy], [2, "Capacity"]);
    assert.equal(decide(settings(), idle, limited, now(idle)).desiredReplicas, 1);
  });

  it("grows for the demand that a steady rise reaches by the time a replica is loaded", () => {
    const rise = Array.from({ length: 30 }, (_, i) => ({ tokens: [i * 100] })); // 100 tokens/s
    const window = watched(rise);

    const without = decide(settings(), window, state(1), now(window));
    const ahead = decide(settings(), window, { ...state(1), loadMs: 60_000 }, now(window));

    assert.equal(without.desiredReplicas, 1);
    assert.equal(ahead.desiredReplicas, 2); // 2,900 + 60 * 100 = 8,900
    assert.match(ahead.reason, /demand 8900 tokens \(2700 now\)/);
  });

  it("takes no trend from demand that only fluctuates", () => {
    const noise = Array.from({ length: 30 }, (_, i) => ({ tokens: [3_000 + 40 * i * (i % 2)] }));
    const window = watched(noise);

    const decision = decide(settings(), window, { ...state(1), loadMs: 120_000 }, now(window));

    assert.equal(decision.desiredReplicas, 1);
  });

  it("averages demand over five seconds, so that a clump of requests adds nothing", () => {
    const clump = watched([4_000, 4_000, 4_000, 4_000, 12_000].map((t) => ({ tokens: [t] })));
    const lasting = watched([4_000, 4_000, 12_000, 12_000, 12_000].map((t) => ({ tokens: [t] })));

    assert.equal(decide(settings(), clump, state(1), now(clump)).desiredReplicas, 1);
    assert.equal(decide(settings(), lasting, state(1), now(lasting)).desiredReplicas, 2);
  });

  it("waits out the scale-up window, at the lowest demand in it", () => {
    const slow = settings({ scaleUpStabilizationMs: 10_000 });
    const steady = watched(Array.from({ length: 11 }, () => ({ tokens: [20_000] })));
    const dipped = watched(
      Array.from({ length: 11 }, (_, i) => ({ tokens: [i === 5 ? 100 : 20_000] })),
    );
    const short = watched(Array.from({ length: 10 }, () => ({ tokens: [20_000] })));

    assert.equal(decide(slow, steady, state(1), now(steady)).desiredReplicas, 3);
    assert.equal(decide(slow, dipped, state(1), now(dipped)).desiredReplicas, 1);
    assert.equal(decide(slow, short, state(1), now(short)).desiredReplicas, 1);
  });
});

describe("Window", () => {
  it("forgets what is older than an hour", () => {
    const window = new Window();
    for (let second = 0; second <= 3_700; second += 10) {
      window.add(observation({ tokens: [1] }, second * 1_000), 4);
    }

    assert.equal(window.demand[0]?.atMs, 100_000);
  });
});

interface Look {
  readonly tokens: readonly number[];
  readonly running?: number;
  readonly waiting?: number;
  readonly waitingPrompt?: number;
  readonly prefillRate?: number;
  readonly decodeRate?: number;
  readonly ready?: number;
  readonly pending?: number;
}

/** A window that saw these looks, one a second from the first second on. */
function watched(looks: readonly Look[]): Window {
  const window = new Window();
  for (const [index, look] of looks.entries()) {
    window.add(observation(look, 1_000 * (index + 1)), 4);
  }
  return window;
}

function now(window: Window): number {
  return window.latest?.atMs ?? 0;
}

function observation(look: Look, atMs: number): Observation {
  const samples = look.tokens.map((kvTokensInUse, index): ReplicaSample => {
    return {
      pod: `pod-${index}`,
      atMs,
      kvTokensInUse,
      kvTokensTotal: 10_000,
      runningRequests: look.running ?? 0,
      waitingRequests: look.waiting ?? 0,
      waitingPromptTokens: look.waitingPrompt ?? 0,
      prefillTokensPerSecond: look.prefillRate ?? 0,
      decodeTokensPerSecond: look.decodeRate ?? 0,
    };
  });
  return {
    atMs,
    samples,
    readyCount: look.ready ?? samples.length,
    pendingCount: look.pending ?? 0,
  };
}

function settings(overrides: Partial<ScalingSettings> = {}): ScalingSettings {
  return {
    minReplicas: 1,
    maxReplicas: 5,
    policyLimit: undefined,
    kvCacheUtilization: 0.8,
    queueDepthPerReplica: 4,
    ttftMs: undefined,
    itlMs: undefined,
    scaleUpAt: 0.85,
    scaleDownAt: 0.7,
    staleAfterMs: 5_000,
    scaleUpStabilizationMs: 0,
    scaleUpMaxFactor: 4,
    scaleDownStabilizationMs: 60_000,
    scaleDownMaxPods: 1,
    scaleDownPeriodMs: 30_000,
    ...overrides,
  };
}

function state(desiredReplicas: number): ScalingState {
  return {
    desiredReplicas,
    lastScaleDownMs: undefined,
    capacityLimit: undefined,
    loadMs: undefined,
  };
}
