import type { Reason } from "../reconcile/conditions.ts";

interface TerminalErrorOptions {
  readonly reason: Extract<Reason, "InvalidSpec" | "Forbidden" | "QuotaExceeded">;
  /** What the reader should do next, as an imperative sentence. */
  readonly remedy: string;
  readonly cause?: unknown;
}

/** A failure that trying again cannot mend: only another spec, or other rights, can. */
export class TerminalError extends Error {
  override readonly name = "TerminalError";
  readonly reason: TerminalErrorOptions["reason"];
  readonly remedy: string;

  constructor(message: string, options: TerminalErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.reason = options.reason;
    this.remedy = options.remedy;
  }
}
