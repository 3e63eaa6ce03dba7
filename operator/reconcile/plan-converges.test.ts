import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { ObservedPod } from "./observed-pod.ts";
import { isActive, type PodGoal, type PodPlan, planPods } from "./plan.ts";
import { aPod, noon, secondsBefore } from "./testing.ts";

type Kind = (typeof kinds)[number];

const kinds = [
  "current",
  "current loading",
  "current draining",
  "outdated",
  "outdated busy",
  "outdated loading",
  "outdated draining",
  "failed",
  "terminating",
] as const;

const strategies = ["Auto", "RollingUpdate", "Recreate"] as const;
// A step of the world, in seconds.
const stepSeconds = 10;
const maxSteps = 120;

describe("planPods, step by step", () => {
  for (const strategy of strategies) {
    it(`converges from any mix of up to 4 pods under ${strategy} and keeps its promises`, () => {
      for (const mix of mixesOf(4)) {
        for (const replicas of [0, 1, 2, 3]) {
          for (const maxSurge of strategy === "Recreate" ? [1] : [1, 2]) {
            const goal = aGoal({ strategy, replicas, maxSurge });
            settle(goal, new World(mix, 99), `${mix.join("+")} to ${replicas}, surge ${maxSurge}`);
          }
        }
      }
    });
  }

  for (const strategy of ["Auto", "Recreate"] as const) {
    it(`converges under ${strategy} where the cluster has room for the replicas alone`, () => {
      for (const mix of mixesOf(3)) {
        for (const replicas of [1, 2, 3]) {
          const goal = aGoal({ strategy, replicas });
          settle(goal, new World(mix, replicas), `${mix.join("+")} to ${replicas} of ${replicas}`);
        }
      }
    });
  }

  for (const strategy of ["Auto", "RollingUpdate"] as const) {
    it(`stops a rollout whose pods never become ready under ${strategy}`, () => {
      for (const replicas of [1, 2, 3]) {
        const goal = aGoal({ strategy, replicas, maxSurge: 3 });
        const world = new World(Array<Kind>(replicas).fill("outdated"), 99, false);
        for (let step = 0; step < maxSteps; step++) {
          world.apply(planPods(goal, world.pods, world.now));
          const current = world.pods.filter((pod) => pod.templateHash === "new");
          assert.equal(current.length, 1);
          assert.equal(world.pods.filter((pod) => pod.ready).length, replicas);
        }
      }
    });
  }
});

/** A cluster with places for pods, in which every pod that has one becomes ready. */
class World {
  pods: ObservedPod[];
  now = noon;
  readonly #places: number;
  readonly #works: boolean;

  constructor(mix: readonly Kind[], places: number, works = true) {
    this.pods = mix.map(podOf);
    this.#places = places;
    this.#works = works;
  }

  apply(plan: PodPlan): void {
    const gone = this.pods.filter((pod) => pod.phase === "Terminating").map((pod) => pod.name);
    this.pods = this.pods
      .filter((pod) => !gone.includes(pod.name))
      .map((pod) => this.#next(pod, plan));
    for (const ordinal of plan.create) {
      const pod = { ordinal, phase: "Pending", ready: false, createdAt: this.now } as const;
      this.pods.push(aPod(`granite-new-${ordinal}`, pod));
    }
    this.#place();
    this.now = secondsBefore(this.now, -stepSeconds);
  }

  #next(pod: ObservedPod, plan: PodPlan): ObservedPod {
    if (plan.delete.includes(pod.name)) return { ...pod, phase: "Terminating", ready: false };
    if (plan.drain.includes(pod.name)) return { ...pod, drainingSince: this.now, ready: false };
    if (pod.drainingSince !== undefined) {
      return { ...pod, inFlight: Math.max(0, (pod.inFlight ?? 0) - 1) };
    }
    const isCurrent = pod.templateHash === "new";
    return pod.phase === "Running" && isCurrent && this.#works ? { ...pod, ready: true } : pod;
  }

  #place(): void {
    let free = this.#places - this.pods.filter(({ phase }) => phase !== "Pending").length;
    this.pods = this.pods.map((pod) => {
      if (pod.phase !== "Pending") return pod;
      const { unschedulable: _, ...rest } = pod;
      free -= 1;
      return free >= 0 ? { ...rest, phase: "Running" } : { ...rest, unschedulable: "no GPU left" };
    });
  }
}

function settle(goal: PodGoal, world: World, title: string): void {
  for (let step = 0; step < maxSteps; step++) {
    const plan = planPods(goal, world.pods, world.now);
    checkPromises(goal, world.pods, plan, `${title}, step ${step}`);
    if (plan.settled) {
      assert.equal(world.pods.length, goal.replicas, title);
      assert.ok(world.pods.every((pod) => pod.templateHash === "new" && pod.ready));
      assert.deepEqual([plan.create, plan.drain, plan.delete], [[], [], []], title);
      return;
    }
    world.apply(plan);
  }
  assert.fail(`${title} does not settle: ${JSON.stringify(world.pods)}`);
}

function checkPromises(
  goal: PodGoal,
  pods: readonly ObservedPod[],
  plan: PodPlan,
  title: string,
): void {
  const removed = [...plan.delete, ...plan.drain];
  const ready = pods.filter((pod) => pod.ready);
  const kept = ready.filter((pod) => !removed.includes(pod.name));
  const outdated = pods.filter((pod) => pod.templateHash !== "new");
  const waiting = pods.some((pod) => pod.unschedulable !== undefined);
  const exchanged = goal.strategy === "Auto" && waiting ? 1 : 0;
  const floor = Math.min(ready.length, goal.replicas) - exchanged;

  assert.equal(new Set(removed).size, removed.length, `${title}: removes a pod twice`);
  if (goal.strategy !== "Recreate") assert.ok(kept.length >= floor, `${title}: drops capacity`);
  for (const pod of pods) {
    const answers = pod.ready || (pod.inFlight ?? 0) > 0;
    if (pod.drainingSince === undefined && isActive(pod) && answers) {
      assert.ok(!plan.delete.includes(pod.name), `${title}: cuts off ${pod.name}`);
    }
    assert.ok(
      pod.templateHash !== "new" || !plan.create.includes(pod.ordinal),
      `${title}: takes the name of ${pod.name}`,
    );
  }
  if (plan.create.length === 0) return;
  const total = pods.length + plan.create.length;
  if (goal.strategy === "Recreate") assert.equal(outdated.length, 0, `${title}: mixes templates`);
  else if (outdated.some((pod) => pod.ready)) {
    const isFirst = total <= pods.length + 1 && !pods.some(isCurrentActive);
    assert.ok(total <= goal.replicas + goal.maxSurge || isFirst, `${title}: surges too far`);
  }
}

function isCurrentActive(pod: ObservedPod): boolean {
  return isActive(pod) && pod.templateHash === "new";
}

/** Every multiset of up to `size` kinds. */
function mixesOf(size: number, from = 0): Kind[][] {
  if (size === 0) return [[]];
  const longer = kinds
    .slice(from)
    .flatMap((kind, i) => mixesOf(size - 1, from + i).map((rest) => [kind, ...rest]));
  return [[], ...longer];
}

function podOf(kind: Kind, ordinal: number): ObservedPod {
  const templateHash = kind.startsWith("outdated") ? "old" : "new";
  const name = `granite-${templateHash}-${ordinal}`;
  const fields: Partial<ObservedPod> = {
    current: {},
    "current loading": { ready: false },
    "current draining": { ready: false, drainingSince: secondsBefore(noon, 5), inFlight: 2 },
    outdated: {},
    "outdated busy": { inFlight: 3 },
    "outdated loading": { ready: false },
    "outdated draining": { ready: false, drainingSince: secondsBefore(noon, 5), inFlight: 99 },
    failed: { ready: false, phase: "Failed" as const },
    terminating: { ready: false, phase: "Terminating" as const },
  }[kind];
  return aPod(name, { templateHash, ordinal, ...fields });
}

function aGoal(fields: Partial<PodGoal>): PodGoal {
  const template = { hash: "new", drainTimeoutMs: 60_000 };
  return { replicas: 1, strategy: "Auto", maxSurge: 1, template, ...fields };
}
