import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { EventRecorder, type Happening } from "./events.ts";
import { FakeApiServer, type FakeObject } from "./fake-api-server.ts";
import type { Resource } from "./kubernetes-object.ts";
import { Transport } from "./transport.ts";

const things: Resource = { group: "e.org", version: "v1", kind: "Thing", plural: "things" };
const thing = { metadata: { name: "web", namespace: "a", uid: "u1" } };
const scaling: Happening = { type: "Normal", reason: "Scaling", message: "create 1 pod" };

describe("EventRecorder", () => {
  let server: FakeApiServer;
  let recorder: EventRecorder;
  let nowMs: number;
  let errors: unknown[];
  beforeEach(async () => {
    server = await new FakeApiServer().listen();
    errors = [];
    nowMs = Date.parse("2030-01-01T12:00:00Z");
    recorder = new EventRecorder({
      transport: new Transport({ credentials: server }),
      controller: "e.org/operator",
      instance: "operator-0",
      now: () => new Date(nowMs),
      onError: (error) => errors.push(error),
    });
  });
  afterEach(() => server.close());

  it("publishes what the API needs to accept an event", async () => {
    recorder.record(things, thing, scaling);

    await recorder.flush();
    const [event] = server.objects();
    const { metadata, ...rest } = event ?? {};
    assert.match(metadata?.name ?? "", /^web\.[0-9a-z]+$/);
    assert.deepEqual(rest, {
      apiVersion: "events.k8s.io/v1",
      kind: "Event",
      eventTime: "2030-01-01T12:00:00.000000Z",
      reportingController: "e.org/operator",
      reportingInstance: "operator-0",
      action: "Scaling",
      reason: "Scaling",
      type: "Normal",
      note: "create 1 pod",
      regarding: { apiVersion: "e.org/v1", kind: "Thing", name: "web", namespace: "a", uid: "u1" },
    });
  });

  it("counts in a series what differs in numbers alone", async () => {
    recorder.record(things, thing, scaling);
    nowMs += 5_000;
    recorder.record(things, thing, { ...scaling, message: "create 7 pod" });
    recorder.record(things, thing, scaling);

    await recorder.flush();
    assert.equal(server.objects().length, 1);
    assert.deepEqual(server.objects()[0]?.["series"], {
      count: 3,
      lastObservedTime: "2030-01-01T12:00:05.000000Z",
    });
  });

  it("begins another event for another reason, another object and after ten quiet minutes", async () => {
    recorder.record(things, thing, scaling);
    recorder.record(things, thing, { ...scaling, reason: "Serving" });
    recorder.record(things, { metadata: { ...thing.metadata, uid: "u2" } }, scaling);
    nowMs += 600_000;
    recorder.record(things, thing, scaling);

    await recorder.flush();
    assert.equal(server.objects().length, 4);
    assert.ok(server.objects().every((event: FakeObject) => event["series"] === undefined));
  });

  it("lets one object publish 25 different ones in ten minutes, and others still theirs", async () => {
    const letters = Array.from({ length: 40 }, (_, i) => "x".repeat(i + 1));
    for (const message of letters) recorder.record(things, thing, { ...scaling, message });
    await recorder.flush();
    assert.equal(server.objects().length, 25);

    recorder.record(things, { metadata: { ...thing.metadata, uid: "u2" } }, scaling);
    await recorder.flush();
    assert.equal(server.objects().length, 26);
    nowMs += 600_000;
    recorder.record(things, thing, scaling);
    await recorder.flush();
    assert.equal(server.objects().length, 27);
  });

  it("keeps the order, goes on after one that was refused, and tells of that", async () => {
    server.faults.push(({ body }) =>
      (body as FakeObject)["reason"] === "Refused" ? { status: 403 } : undefined,
    );
    for (const reason of ["First", "Refused", "Last"]) {
      recorder.record(things, thing, { ...scaling, reason });
    }
    await recorder.flush();

    assert.deepEqual(
      server.objects().map((event: FakeObject) => event["reason"]),
      ["First", "Last"],
    );
    assert.equal(errors.length, 1);
  });

  it("shortens a message to what the API takes", async () => {
    recorder.record(things, thing, { ...scaling, message: "é".repeat(2_000) });

    await recorder.flush();
    assert.equal(String(server.objects()[0]?.["note"]).length, 1_024);
  });
});
