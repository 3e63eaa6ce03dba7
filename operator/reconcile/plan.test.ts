import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { ObservedPod } from "./observed-pod.ts";
import { describePlan, type PodGoal, type PodPlan, planPods } from "./plan.ts";
import { aPod, noon, secondsBefore } from "./testing.ts";

describe("planPods on a new service", () => {
  it("creates every replica at once", () => {
    assert.deepEqual(planPods(aGoal({ replicas: 3 }), [], noon).create, [0, 1, 2]);
  });

  it("is settled once they are ready, and does nothing", () => {
    const plan = planPods(aGoal({ replicas: 2 }), [aPod("a"), aPod("b", { ordinal: 1 })], noon);

    assert.deepEqual(plan, { delete: [], drain: [], create: [], settled: true });
  });

  it("waits for a pod that loads", () => {
    const plan = planPods(aGoal(), [aPod("a", { ready: false })], noon);

    assert.deepEqual(plan, { delete: [], drain: [], create: [], settled: false });
  });

  it("is not settled while a pod too many leaves", () => {
    const leaving = aPod("b", { ordinal: 1, drainingSince: noon, ready: false, inFlight: 1 });

    assert.equal(planPods(aGoal(), [aPod("a"), leaving], noon).settled, false);
  });

  it("reuses the lowest free ordinal, but none of a pod that is still there", () => {
    const pods = [
      aPod("a", { ordinal: 1 }),
      aPod("b", { ordinal: 0, phase: "Terminating", ready: false }),
      aPod("c", { ordinal: 2, templateHash: "old", ready: false, phase: "Terminating" }),
    ];

    assert.deepEqual(planPods(aGoal({ replicas: 3 }), pods, noon).create, [2, 3]);
  });

  it("replaces a pod that ended for good", () => {
    const failed = aPod("a", { phase: "Failed", ready: false });
    const plan = planPods(aGoal(), [failed], noon);

    assert.deepEqual([plan.delete, plan.create], [["a"], [1]]);
  });

  it("keeps a pod that ends again and again: starting it later is the cluster's task", () => {
    const plan = planPods(aGoal(), [aPod("a", { ready: false, restartCount: 9 })], noon);

    assert.deepEqual([plan.delete, plan.create], [[], []]);
  });
});

describe("planPods with too many pods", () => {
  const pair = (a: Partial<ObservedPod>, b: Partial<ObservedPod>) => [aPod("a", a), aPod("b", b)];
  const cases: readonly (readonly [string, readonly ObservedPod[], Partial<PodPlan>])[] = [
    ["deletes one that is not ready", pair({ ready: false }, {}), { delete: ["a"] }],
    [
      "prefers one without a place to one that loads",
      pair({ ready: false, inFlight: 0 }, { ready: false, phase: "Pending", inFlight: 9 }),
      { drain: ["b"] },
    ],
    [
      "drains the one with the least in flight",
      pair({ inFlight: 1 }, { inFlight: 2 }),
      { drain: ["a"] },
    ],
    [
      "looks at requests before caches",
      pair({ inFlight: 2, cachedTokens: 1 }, { inFlight: 1, cachedTokens: 9 }),
      { drain: ["b"] },
    ],
    ["drains the coldest cache", pair({ cachedTokens: 1 }, { cachedTokens: 9 }), { drain: ["a"] }],
    [
      "drains the youngest",
      pair({ createdAt: secondsBefore(noon, 9) }, { createdAt: secondsBefore(noon, 99) }),
      { drain: ["a"] },
    ],
    ["drains the last by name of twins", pair({}, {}), { drain: ["b"] }],
    [
      "takes an unknown load for a high one",
      [aPod("a", { inFlight: 7 }), unknownLoad("b")],
      { drain: ["a"] },
    ],
    [
      "drains one that is not ready but still answers",
      pair({ ready: false, inFlight: 3 }, {}),
      { drain: ["a"] },
    ],
  ];
  for (const [title, pods, expected] of cases) {
    it(title, () => {
      const plan = planPods(aGoal({ replicas: 1 }), pods, noon);

      assert.deepEqual(plan, { delete: [], drain: [], create: [], settled: false, ...expected });
    });
  }

  it("drains all of a service that ends", () => {
    const plan = planPods(aGoal({ replicas: 0 }), [aPod("a"), aPod("b", { ready: false })], noon);

    assert.deepEqual([plan.delete, plan.drain, plan.create], [["b"], ["a"], []]);
  });
});

describe("planPods with a draining pod", () => {
  const cases: readonly (readonly [string, Partial<ObservedPod>, boolean])[] = [
    ["waits for its requests", { inFlight: 1 }, false],
    ["waits while they are unknown", {}, false],
    ["deletes it once it answers nothing", { inFlight: 0 }, true],
    [
      "does not believe a count from before gateways knew",
      { inFlight: 0, drainingSince: secondsBefore(noon, 0.9) },
      false,
    ],
    [
      "deletes it when its time is over",
      { inFlight: 5, drainingSince: secondsBefore(noon, 300) },
      true,
    ],
    ["lets it have all its time", { inFlight: 5, drainingSince: secondsBefore(noon, 299) }, false],
    ["deletes one that never ran", { phase: "Pending", inFlight: 1 }, true],
    ["does not delete it twice", { phase: "Terminating", inFlight: 0 }, false],
  ];
  for (const [title, fields, deleted] of cases) {
    it(title, () => {
      const { inFlight: _, ...pod } = aPod("a");
      const since = secondsBefore(noon, 1);
      const leaving = { ...pod, ready: false, drainingSince: since, ...fields };

      assert.deepEqual(
        planPods(aGoal({ replicas: 0 }), [leaving], noon).delete,
        deleted ? ["a"] : [],
      );
    });
  }

  it("replaces it without waiting when the service needs the replica", () => {
    const leaving = aPod("a", { ready: false, inFlight: 1, drainingSince: noon });

    assert.deepEqual(planPods(aGoal(), [leaving], noon).create, [1]);
  });
});

describe("planPods with outdated pods", () => {
  const old = (name: string, fields: Partial<ObservedPod> = {}) =>
    aPod(name, { templateHash: "old", ...fields });

  it("creates one pod first, however many it may", () => {
    const goal = aGoal({ replicas: 3, maxSurge: 3 });

    assert.deepEqual(planPods(goal, [old("a"), old("b"), old("c")], noon).create, [0]);
  });

  it("waits for that one before it touches a pod that serves", () => {
    const plan = planPods(aGoal(), [old("a"), aPod("b", { ready: false })], noon);

    assert.deepEqual([plan.create, plan.drain], [[], []]);
  });

  it("uses the whole surge once the template has proved itself", () => {
    const goal = aGoal({ replicas: 4, maxSurge: 3 });
    const pods = [old("a"), old("b"), old("c"), old("d"), aPod("e")];

    assert.deepEqual(planPods(goal, pods, noon).create, [1, 2]);
  });

  it("drains as many as can be spared, those with the least in flight", () => {
    const pods = [old("a", { inFlight: 2 }), old("b", { inFlight: 1 }), aPod("c")];

    assert.deepEqual(planPods(aGoal({ replicas: 2 }), pods, noon).drain, ["b"]);
  });

  it("counts a leaving pod against the surge: it still has its GPU", () => {
    const leaving = old("a", { ready: false, drainingSince: noon, inFlight: 1 });
    const plan = planPods(aGoal({ replicas: 2 }), [leaving, old("b"), aPod("c")], noon);

    assert.deepEqual([plan.create, plan.drain], [[], []]);
  });

  it("ends those that are not ready at once and replaces all of them", () => {
    const pods = [old("a", { ready: false }), old("b", { ready: false })];
    const plan = planPods(aGoal({ replicas: 2 }), pods, noon);

    assert.deepEqual(
      [plan.delete.toSorted(), plan.create],
      [
        ["a", "b"],
        [0, 1],
      ],
    );
  });

  it("takes back a rollout that does not start", () => {
    const pods = [aPod("a"), aPod("b"), old("bad", { ready: false, restartCount: 4 })];
    const plan = planPods(aGoal({ replicas: 2 }), pods, noon);

    assert.deepEqual([plan.delete, plan.drain, plan.create], [["bad"], [], []]);
  });

  it("drains all of them first under Recreate, and creates when the last is gone", () => {
    const goal = aGoal({ strategy: "Recreate", replicas: 2 });
    const leaving = old("a", { ready: false, drainingSince: noon, inFlight: 1 });

    const first = planPods(goal, [old("a"), old("b")], noon);
    assert.deepEqual([first.drain, first.create], [["a", "b"], []]);
    assert.deepEqual(planPods(goal, [leaving], noon).create, []);
    assert.deepEqual(planPods(goal, [], noon).create, [0, 1]);
  });

  describe("on a cluster without room", () => {
    const waiting = (seconds: number, fields: Partial<ObservedPod> = {}) =>
      aPod("new", {
        ready: false,
        phase: "Pending",
        unschedulable: "0/1 nodes have nvidia.com/gpu",
        createdAt: secondsBefore(noon, seconds),
        ...fields,
      });
    const goal = aGoal({ replicas: 2 });
    const cases: readonly (readonly [
      string,
      PodGoal,
      readonly ObservedPod[],
      readonly string[],
    ])[] = [
      ["Auto drains one", goal, [waiting(30), old("a"), old("b")], ["b"]],
      ["Auto waits half a minute for room", goal, [waiting(29), old("a"), old("b")], []],
      [
        "RollingUpdate waits",
        { ...goal, strategy: "RollingUpdate" },
        [waiting(900), old("a"), old("b")],
        [],
      ],
      [
        "Auto waits while a pod leaves",
        goal,
        [waiting(60), old("a"), old("b", { ready: false, drainingSince: noon, inFlight: 1 })],
        [],
      ],
      [
        "Auto waits while a place becomes free",
        goal,
        [waiting(60), old("a"), old("b", { ready: false, phase: "Terminating" })],
        [],
      ],
      [
        "Auto waits while a new pod loads",
        goal,
        [waiting(60), aPod("c", { ready: false }), old("a")],
        [],
      ],
      ["Auto drains none of the current", goal, [waiting(60), aPod("c")], []],
      [
        "Auto drains none for a pod that has a place",
        goal,
        [aPod("new", { ready: false }), old("a"), old("b")],
        [],
      ],
    ];
    for (const [title, aim, pods, drained] of cases) {
      it(title, () => assert.deepEqual(planPods(aim, pods, noon).drain, drained));
    }
  });
});

describe("describePlan", () => {
  const cases: readonly (readonly [Partial<PodPlan>, string])[] = [
    [{}, ""],
    [{ create: [0] }, "create 1 pod"],
    [{ create: [0, 1] }, "create 2 pods"],
    [{ create: [0], drain: ["a"], delete: ["b", "c"] }, "create 1 pod, drain 1, delete 2"],
    [{ delete: ["a"] }, "delete 1 pod"],
  ];
  for (const [plan, text] of cases) {
    it(`says "${text}"`, () => {
      const whole = { create: [], drain: [], delete: [], settled: false, ...plan };
      assert.equal(describePlan(whole), text);
    });
  }
});

function unknownLoad(name: string): ObservedPod {
  const { inFlight: _, ...pod } = aPod(name);
  return pod;
}

function aGoal(fields: Partial<PodGoal> = {}): PodGoal {
  const template = { hash: "new", drainTimeoutMs: 300_000 };
  return { replicas: 1, strategy: "Auto", maxSurge: 1, template, ...fields };
}
