import assert from "node:assert/strict";
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { watchManifest } from "./manifest-watch.ts";

describe("watchManifest", () => {
  it("tells what was saved between the first reading and the watch, and nothing that is known", async (t) => {
    const late = await watched(t, { content: "second", known: "first" });
    const same = await watched(t, { content: "first", known: "first" });

    await until(() => late.texts.length === 1);
    await delay(150);

    assert.deepEqual(late.texts, ["second"]);
    assert.deepEqual(same.texts, []);
  });

  it("tells a change that comes while another is being handled, after it", async (t) => {
    let running = 0;
    const { file, texts } = await watched(t, {
      onText: async () => {
        assert.equal(++running, 1, "one at a time");
        if (texts.length === 1) await writeFile(file, "third");
        await delay(300);
        running--;
      },
    });

    await writeFile(file, "second");
    await until(() => texts.length === 2);

    assert.deepEqual(texts, ["second", "third"]);
  });

  it("tells of half a file that is being written only when it is whole", async (t) => {
    const { file, texts } = await watched(t, {});

    for (let i = 1; i <= 8; i++) {
      await writeFile(file, "x".repeat(i));
      await delay(20);
    }
    await until(() => texts.at(-1) === "xxxxxxxx");

    assert.deepEqual(texts, ["xxxxxxxx"]);
  });

  it("follows a file that goes away, and one that takes its place", async (t) => {
    const { file, texts, errors } = await watched(t, {});

    await rm(file);
    await until(() => errors.length > 0);
    await writeFile(`${file}.new`, "again");
    await rename(`${file}.new`, file);
    await until(() => texts.length === 1);

    assert.match(String(errors[0]), /ENOENT/);
    assert.deepEqual(texts, ["again"]);
  });
});

interface Given {
  readonly content?: string;
  readonly known?: string;
  readonly onText?: () => Promise<void>;
}

async function watched(t: TestContext, { content = "first", known = "first", onText }: Given) {
  const folder = await mkdtemp(join(tmpdir(), "quire-watch-"));
  const file = join(folder, "manifest.yaml");
  await writeFile(file, content);
  const texts: string[] = [];
  const errors: unknown[] = [];
  const watch = await watchManifest(
    file,
    known,
    async (text) => {
      texts.push(text);
      await onText?.();
    },
    (error) => errors.push(error),
  );
  t.after(async () => {
    await watch.close();
    await rm(folder, { recursive: true });
  });
  return { file, texts, errors };
}

async function until(condition: () => boolean): Promise<void> {
  const endMs = Date.now() + 10_000;
  while (!condition()) {
    assert.ok(Date.now() < endMs, String(condition));
    await delay(5);
  }
}
