import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { failure } from "./sources/testing.ts";
import { resolveModel } from "./sources.ts";

describe("resolveModel", () => {
  it("refuses by name what it cannot serve", async () => {
    const cases: [string, RegExp, RegExp][] = [
      ["pvc://models/granite", /^pvc:\/\/models\/granite is a mount that the operator/, /mounted/],
      ["s3://bucket/m.gguf", /names an S3 bucket, which is not supported/, /Mount/],
      ["gs://bucket/m.gguf", /names a Google Cloud bucket, which is not supported/, /Mount/],
      ["oci://registry/image", /names an image, which is not supported/, /Mount/],
      [
        "ftp://user:secret@host/m.gguf?key=secret",
        /^ftp:\/\/host\/m.gguf has the unknown/,
        /https/,
      ],
      ["S3://bucket/m.gguf", /S3 bucket/, /Mount/],
    ];
    for (const [uri, message, remedy] of cases) {
      await assert.rejects(
        resolveModel(uri, { cacheDir: "/nowhere" }),
        failure("MODEL_SOURCE_FAILED", message, remedy),
        uri,
      );
    }
  });
});
