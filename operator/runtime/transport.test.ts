import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { NotLeaderError } from "./api-error.ts";
import { FakeApiServer, type Fault } from "./fake-api-server.ts";
import { type Call, Transport } from "./transport.ts";

const path = "/api/v1/namespaces/a/pods";
const get: Call = { method: "GET", path };
const post: Call = { method: "POST", path, body: { metadata: { name: "p" } } };

describe("Transport", () => {
  let server: FakeApiServer;
  beforeEach(async () => {
    server = await new FakeApiServer().listen();
  });
  afterEach(() => server.close());

  it("sends call after call over one connection", async () => {
    const transport = new Transport({ credentials: server });

    for (let i = 0; i < 20; i++) await transport.call(get);

    assert.deepEqual([...new Set(server.requests.map(({ connection }) => connection))], [1]);
  });

  it("keeps the number of connections of a burst below its limit", async () => {
    const transport = new Transport({ credentials: server });

    await Promise.all(Array.from({ length: 200 }, () => transport.call(get)));

    const used = new Set(server.requests.map(({ connection }) => connection));
    assert.ok(used.size <= 32, `${used.size} connections`);
  });

  const retried: readonly (readonly [string, Call, Fault])[] = [
    ["GET after 500", get, { status: 500 }],
    ["GET after 503", get, { status: 503 }],
    ["GET after 429", get, { status: 429 }],
    ["GET after a cut connection", get, "cut"],
    ["DELETE after a cut connection", { method: "DELETE", path: `${path}/p` }, "cut"],
    ["POST after 429, which did nothing", post, { status: 429 }],
  ];
  for (const [name, call, fault] of retried) {
    it(`repeats ${name}`, async () => {
      server.put(path, { metadata: { name: "p" } });
      if (call.method === "POST") server.remove(`${path}/p`);
      server.faults.push(once(fault));

      await new Transport({ credentials: server }).call(call);

      assert.equal(server.requests.length, 2);
    });
  }

  const single: readonly (readonly [string, Call, Fault])[] = [
    ["POST after 500, which may have done it", post, { status: 500 }],
    ["POST after a cut connection, which may have done it", post, "cut"],
    ["GET after 404", get, { status: 404 }],
    ["GET after 403", get, { status: 403 }],
    ["GET after 410", get, { status: 410 }],
  ];
  for (const [name, call, fault] of single) {
    it(`does not repeat ${name}`, async () => {
      server.faults.push(() => fault);

      await assert.rejects(new Transport({ credentials: server }).call(call));

      assert.equal(server.requests.length, 1);
    });
  }

  it("gives up after four attempts and tells what the server said", async () => {
    server.faults.push(() => ({ status: 500, body: { message: "etcd is away", reason: "X" } }));

    await assert.rejects(new Transport({ credentials: server }).call(get), {
      name: "ApiError",
      code: 500,
      reason: "X",
      message: `GET ${path}: etcd is away`,
    });
    assert.equal(server.requests.length, 4);
  });

  it("waits as long as Retry-After says", async () => {
    server.faults.push(once({ status: 429, headers: { "retry-after": "0.3" } }));
    const startMs = performance.now();

    await new Transport({ credentials: server }).call(get);

    assert.ok(performance.now() - startMs >= 295);
  });

  it("ends a call that gets no answer in time", async () => {
    server.faults.push(() => "hang");
    const transport = new Transport({ credentials: server, deadlineMs: 50 });

    await assert.rejects(transport.call(get), { name: "NoAnswerError" });
  });

  it("does not wait for a Retry-After that lies beyond the deadline", async () => {
    server.faults.push(() => ({ status: 429, headers: { "retry-after": "60" } }));
    const transport = new Transport({ credentials: server, deadlineMs: 100 });

    await assert.rejects(transport.call(get), { name: "ApiError", code: 429 });
  });

  it("reads its credentials anew after 401, once", async () => {
    server.faults.push(({ headers }) =>
      headers.authorization === "Bearer second" ? undefined : { status: 401 },
    );
    const transport = new Transport({ credentials: server });
    await assert.rejects(transport.call(get), { code: 401 });
    assert.equal(server.requests.length, 2);
    assert.equal(server.refusedCount, 2);

    server.token = "second";
    await transport.call(get);

    assert.equal(server.requests.length, 3);
  });

  it("asks before each write, and not before a read", async () => {
    const transport = new Transport({
      credentials: server,
      beforeWrite: () => {
        throw new NotLeaderError("not leading");
      },
    });

    await transport.call(get);
    for (const method of ["POST", "PUT", "PATCH", "DELETE"] as const) {
      await assert.rejects(transport.call({ method, path }), { name: "NotLeaderError" });
    }

    assert.equal(server.requests.length, 1);
  });

  it("asks again before it repeats a write", async () => {
    server.faults.push(() => ({ status: 429 }));
    let asked = 0;
    const transport = new Transport({
      credentials: server,
      beforeWrite: () => {
        asked++;
        if (asked > 1) throw new NotLeaderError("lost");
      },
    });

    await assert.rejects(transport.call(post), { name: "NotLeaderError" });

    assert.equal(server.requests.length, 1);
  });

  it("tells of every answer", async () => {
    const answers: string[] = [];
    server.faults.push(once("cut"));
    const transport = new Transport({
      credentials: server,
      onAnswer: (method, code, seconds) => {
        answers.push(`${method} ${code}`);
        assert.ok(seconds >= 0 && seconds < 5);
      },
    });

    await transport.call(get);
    await assert.rejects(transport.call({ method: "DELETE", path: `${path}/none` }));

    assert.deepEqual(answers, ["GET 0", "GET 200", "DELETE 404"]);
  });

  it("ends with its caller", async () => {
    server.faults.push(() => "hang");
    const transport = new Transport({ credentials: server });

    await assert.rejects(transport.call({ ...get, signal: AbortSignal.timeout(30) }), {
      name: "NoAnswerError",
    });
    assert.equal(server.requests.length, 1);
  });
});

function once(fault: Fault): () => Fault | undefined {
  let isFirst = true;
  return () => {
    const answer = isFirst ? fault : undefined;
    isFirst = false;
    return answer;
  };
}
