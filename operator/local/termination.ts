import { readFile, rm } from "node:fs/promises";
import type { TerminationMessage } from "../../engine/contract.ts";

const tailBytes = 4_096;
const maxLineLength = 300;

/** How a process ended: as `ChildProcess` tells it. */
export interface ProcessEnd {
  readonly exitCode: number | null;
  readonly signal: string | null;
}

/**
 * What the engine said when it ended, or, when it was killed before it could say anything, how it
 * ended and the last line of its log.
 *
 * Takes the engine's file away, so that the next end is not explained by this one.
 */
export async function readTermination(
  terminationFile: string,
  logFile: string,
  end: ProcessEnd,
): Promise<TerminationMessage> {
  const left = await readFile(terminationFile, "utf8").catch(() => "");
  await rm(terminationFile, { force: true });
  return parseMessage(left) ?? describeEnd(end, await lastLine(logFile), logFile);
}

function parseMessage(text: string): TerminationMessage | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isTerminationMessage(value) ? value : undefined;
  } catch (error) {
    // An engine that is killed in the middle of its last words leaves half a file.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function isTerminationMessage(value: unknown): value is TerminationMessage {
  return (
    typeof value === "object" &&
    value !== null &&
    "code" in value &&
    typeof value.code === "string" &&
    "message" in value &&
    typeof value.message === "string" &&
    "remedy" in value &&
    typeof value.remedy === "string"
  );
}

function describeEnd(end: ProcessEnd, line: string, logFile: string): TerminationMessage {
  const how = end.signal === null ? `with exit code ${end.exitCode}` : `by ${end.signal}`;
  return {
    code: "ENGINE_ENDED",
    message: `the engine ended ${how}${line === "" ? "" : `; its log ends with: ${line}`}`,
    remedy: `Read ${logFile}.`,
  };
}

async function lastLine(logFile: string): Promise<string> {
  const log = await readFile(logFile).catch(() => Buffer.alloc(0));
  const lines = log.subarray(-tailBytes).toString("utf8").trimEnd().split("\n");
  return (lines.at(-1) ?? "").slice(0, maxLineLength);
}
