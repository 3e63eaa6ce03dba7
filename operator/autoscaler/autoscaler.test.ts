import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { AutoscalingPolicy } from "../api/autoscaling-policy.ts";
import type { InferenceService } from "../api/inference-service.ts";
import { Autoscaler, type ServiceView } from "./autoscaler.ts";
import { policyFor, scalingSettings, selects } from "./scaling-settings.ts";

describe("Autoscaler", () => {
  it("grows under load and shrinks one pod a period once the load is gone", () => {
    const autoscaler = new Autoscaler();
    const service = aService({ minReplicas: 1, maxReplicas: 3, window: 10, period: 20 });
    const busy = (at: number) => autoscaler.tick([view(service, at, 9_000)], [], at).get("a");
    const idle = (at: number) => autoscaler.tick([view(service, at, 0)], [], at).get("a");

    assert.equal(busy(1_000)?.desiredReplicas, 2);
    const counts = [];
    for (let at = 2_000; at <= 60_000; at += 1_000) counts.push(idle(at)?.desiredReplicas);

    assert.deepEqual([...new Set(counts)], [2, 1]);
    assert.equal(counts.indexOf(1), 10); // the busy look left the window of 10 s at 12 s
  });

  it("starts from what the status says after a restart", () => {
    const service = { ...aService({ maxReplicas: 5 }), status: statusWith(4) };

    const decision = new Autoscaler().tick([view(service, 1_000, 0)], [], 1_000).get("a");

    assert.equal(decision?.desiredReplicas, 4);
  });

  it("leaves Static services alone and forgets services that are gone", () => {
    const autoscaler = new Autoscaler();
    const service = aService({ maxReplicas: 5 });
    const fixed = { ...service, spec: { ...service.spec, scaling: { mode: "Static" as const } } };

    assert.equal(autoscaler.tick([view(fixed, 1_000, 9_000)], [], 1_000).size, 0);
    autoscaler.tick([view(service, 1_000, 20_000)], [], 1_000);
    autoscaler.tick([], [], 2_000);
    const again = autoscaler.tick([view(service, 3_000, 0)], [], 3_000).get("a");
    assert.equal(again?.desiredReplicas, 1);
  });

  it("stops asking a full cluster for a minute, then asks again, ever more rarely", () => {
    const autoscaler = new Autoscaler();
    const service = aService({ maxReplicas: 9 });
    const tick = (at: number, unplacedSinceMs: number | undefined) =>
      autoscaler
        .tick([{ ...view(service, at, 50_000), placedCount: 2, unplacedSinceMs }], [], at)
        .get("a");

    assert.equal(tick(1_000, undefined)?.desiredReplicas, 4);
    assert.equal(tick(60_000, 1_000)?.boundBy, "None");
    assert.deepEqual(pick(tick(61_000, 1_000)), [2, "Capacity"]);
    assert.deepEqual(pick(tick(120_000, undefined)), [2, "Capacity"]);
    assert.equal(tick(121_000, undefined)?.boundBy, "None");
    assert.equal(tick(122_000, 60_000)?.boundBy, "Capacity");
  });

  it("shares a policy's GPUs by age", () => {
    const policy = aPolicy({ name: "gold", limits: { maxGPUs: 5 } });
    const older = aService({ name: "older", created: "2026-01-01T00:00:00Z", gpus: 2 });
    const younger = aService({ name: "younger", created: "2026-01-02T00:00:00Z", gpus: 2 });
    const views = [
      { ...view(younger, 1_000, 9_000), key: "younger" },
      { ...view(older, 1_000, 9_000), key: "older" },
    ];

    const decisions = new Autoscaler().tick(views, [policy], 1_000);

    assert.deepEqual(pick(decisions.get("older")), [2, "None"]);
    assert.deepEqual(pick(decisions.get("younger")), [0, "Policy"]);
    assert.match(decisions.get("younger")?.reason ?? "", /policy gold has 1 of 5 GPUs left/);
  });
});

describe("policyFor", () => {
  const labelled = aService({ labels: { tier: "gold" } });

  it("takes the named policy over every selector", () => {
    const named = aService({ policy: "plain" });
    const policies = [aPolicy({ name: "all", priority: 9 }), aPolicy({ name: "plain" })];

    assert.equal(policyFor(named, policies, {})?.metadata.name, "plain");
  });

  it("takes the highest priority, then the first by name", () => {
    const policies = [
      aPolicy({ name: "b", priority: 1 }),
      aPolicy({ name: "a", priority: 1 }),
      aPolicy({ name: "c", priority: 0 }),
    ];

    assert.equal(policyFor(labelled, policies, {})?.metadata.name, "a");
    assert.equal(policyFor(labelled, policies.slice(2), {})?.metadata.name, "c");
  });

  it("asks for the namespace's labels where the policy does", () => {
    const policies = [aPolicy({ name: "p", namespace: { env: "prod" } })];

    assert.equal(policyFor(labelled, policies, { env: "test" }), undefined);
    assert.equal(policyFor(labelled, policies, { env: "prod" })?.metadata.name, "p");
  });
});

describe("selects", () => {
  const table = [
    [{ key: "a", operator: "In", values: ["1", "2"] }, { a: "2" }, true],
    [{ key: "a", operator: "In", values: ["1"] }, { a: "2" }, false],
    [{ key: "a", operator: "In", values: ["1"] }, {}, false],
    [{ key: "a", operator: "NotIn", values: ["1"] }, { a: "1" }, false],
    [{ key: "a", operator: "NotIn", values: ["1"] }, {}, true],
    [{ key: "a", operator: "Exists" }, { a: "" }, true],
    [{ key: "a", operator: "Exists" }, {}, false],
    [{ key: "a", operator: "DoesNotExist" }, {}, true],
    [{ key: "a", operator: "DoesNotExist" }, { a: "" }, false],
  ] as const;

  for (const [expression, labels, expected] of table) {
    it(`${expression.operator} on ${JSON.stringify(labels)} is ${expected}`, () => {
      assert.equal(selects({ matchExpressions: [expression] }, labels), expected);
    });
  }

  it("needs every exact label, and takes all when it asks for none", () => {
    assert.equal(selects({ matchLabels: { a: "1", b: "2" } }, { a: "1", b: "2", c: "3" }), true);
    assert.equal(selects({ matchLabels: { a: "1", b: "2" } }, { a: "1" }), false);
    assert.equal(selects({}, {}), true);
  });
});

describe("scalingSettings", () => {
  it("fills only what the service leaves unset from the policy's defaults", () => {
    const service = aService({ maxReplicas: 4, period: 5 });
    const policy = aPolicy({
      name: "p",
      defaults: {
        minReplicas: 2,
        maxReplicas: 9,
        targets: { ttft: "500ms" },
        behavior: { scaleDown: { periodSeconds: 90, maxPods: 3 } },
      },
    });

    const settings = scalingSettings(service, policy);

    assert.equal(settings.minReplicas, 2);
    assert.equal(settings.maxReplicas, 4);
    assert.equal(settings.ttftMs, 500);
    assert.equal(settings.scaleDownPeriodMs, 5_000);
    assert.equal(settings.scaleDownMaxPods, 3);
  });

  it("stays at one replica where neither says more", () => {
    const { minReplicas, maxReplicas, policyLimit } = scalingSettings(aService({}), undefined);

    assert.deepEqual([minReplicas, maxReplicas, policyLimit], [1, 1, undefined]);
  });
});

interface ServiceOptions {
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly created?: string;
  readonly policy?: string;
  readonly gpus?: number;
  readonly minReplicas?: number;
  readonly maxReplicas?: number;
  readonly window?: number;
  readonly period?: number;
}

function aService(options: ServiceOptions): InferenceService {
  return {
    apiVersion: "quire.dev/v1alpha1",
    kind: "InferenceService",
    metadata: {
      name: options.name ?? "a",
      namespace: "default",
      creationTimestamp: options.created ?? "2026-01-01T00:00:00Z",
      ...(options.labels === undefined ? {} : { labels: options.labels }),
    },
    spec: {
      model: { uri: "file:///model" },
      resources: { gpu: { count: options.gpus ?? 0, resourceName: "nvidia.com/gpu" } },
      parallelism: { tensor: 1 },
      suspend: false,
      scaling: {
        mode: "Auto",
        ...(options.policy === undefined ? {} : { policyRef: { name: options.policy } }),
        ...(options.minReplicas === undefined ? {} : { minReplicas: options.minReplicas }),
        ...(options.gpus === undefined ? {} : { maxReplicas: 9 }),
        ...(options.maxReplicas === undefined ? {} : { maxReplicas: options.maxReplicas }),
        behavior: {
          scaleDown: {
            stabilizationWindowSeconds: options.window ?? 300,
            ...(options.period === undefined ? {} : { periodSeconds: options.period }),
          },
        },
      },
      rollout: { strategy: "Auto", maxSurge: 1 },
      drain: { timeout: "300s" },
      service: { port: 80 },
    },
  };
}

function aPolicy(options: {
  name: string;
  priority?: number;
  namespace?: Readonly<Record<string, string>>;
  limits?: AutoscalingPolicy["spec"]["limits"];
  defaults?: AutoscalingPolicy["spec"]["defaults"];
}): AutoscalingPolicy {
  const { limits, defaults, namespace } = options;
  return {
    apiVersion: "quire.dev/v1alpha1",
    kind: "AutoscalingPolicy",
    metadata: { name: options.name },
    spec: {
      priority: options.priority ?? 0,
      selector: {},
      ...(namespace === undefined ? {} : { namespaceSelector: { matchLabels: namespace } }),
      ...(limits === undefined ? {} : { limits }),
      ...(defaults === undefined ? {} : { defaults }),
      algorithm: { scaleUpAt: "0.85", scaleDownAt: "0.70", staleAfter: "5s" },
    },
  };
}

/** A service with one ready replica of 10,000 tokens, `tokens` of them in use. */
function view(service: InferenceService, atMs: number, tokens: number): ServiceView {
  const sample = {
    pod: "pod",
    atMs,
    kvTokensInUse: tokens,
    kvTokensTotal: 10_000,
    runningRequests: tokens > 0 ? 1 : 0,
    waitingRequests: 0,
    waitingPromptTokens: 0,
    prefillTokensPerSecond: 0,
    decodeTokensPerSecond: 0,
  };
  return {
    key: "a",
    service,
    namespaceLabels: {},
    observation: { atMs, samples: [sample], readyCount: 1, pendingCount: 0 },
    placedCount: 1,
    unplacedSinceMs: undefined,
    loadMs: undefined,
  };
}

function statusWith(desiredReplicas: number): NonNullable<InferenceService["status"]> {
  return { scaling: { desiredReplicas, mode: "Auto", boundBy: "None", reason: "before" } };
}

function pick(decision: { desiredReplicas: number; boundBy: string } | undefined) {
  return [decision?.desiredReplicas, decision?.boundBy];
}
