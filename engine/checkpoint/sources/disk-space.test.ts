import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { describe, it } from "node:test";

import { requireSpace } from "./disk-space.ts";
import { failure } from "./testing.ts";

describe("requireSpace", () => {
  it("refuses more bytes than the file system has left, with both numbers", async () => {
    await requireSpace(tmpdir(), 1);
    await assert.rejects(
      requireSpace(tmpdir(), 2 ** 52),
      failure("MODEL_SOURCE_FAILED", /4504 TB do not fit in .*, which has .*B left/, /larger disk/),
    );
  });
});
