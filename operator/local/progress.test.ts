import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { describe, it } from "node:test";
import type { StartupReport } from "../../engine/contract.ts";
import { createProgress, startupAmount } from "./progress.ts";

describe("createProgress", () => {
  it("writes a line for each phase and each tenth where there is no terminal", () => {
    const { stream, text } = anOutput(false);
    const progress = createProgress(stream);

    progress.show(reports({ phase: "Resolving", message: "Asking the index" }));
    for (const doneBytes of [0, 5, 9, 10, 19, 100]) {
      progress.show(reports({ phase: "Downloading", doneBytes: doneBytes * 1e6, totalBytes: 1e8 }));
    }
    progress.show(new Map());
    progress.log("done");

    assert.equal(
      text(),
      [
        "pod-0: Asking the index",
        "pod-0: Downloading 0 % of 100.0 MB",
        "pod-0: Downloading 10 % of 100.0 MB",
        "pod-0: Downloading 100 % of 100.0 MB",
        "done",
        "",
      ].join("\n"),
    );
  });

  it("draws a bar for each replica on a terminal, and takes it away when it serves", () => {
    const { stream, text } = anOutput(true);
    const progress = createProgress(stream);

    progress.show(reports({ phase: "Downloading", doneBytes: 37e6, totalBytes: 1e8 }));
    progress.log("a line above the bars");
    progress.show(new Map());
    progress.stop();

    assert.match(text(), /pod-0 \[.*\] Downloading 37 % of 100\.0 MB/);
    assert.match(text(), /a line above the bars\n/);
  });
});

function reports(fields: Partial<StartupReport>) {
  const report = { phase: "Loading", doneBytes: 0, totalBytes: 0, message: "", ...fields } as const;
  return new Map([["pod-0", startupAmount(report)]]);
}

function anOutput(isTTY: boolean) {
  const parts: string[] = [];
  const stream = Object.assign(new PassThrough(), { isTTY, columns: 100, rows: 40 });
  stream.on("data", (part: Buffer) => parts.push(part.toString("utf8")));
  return { stream, text: () => parts.join("") };
}
