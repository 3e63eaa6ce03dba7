import { EngineError } from "../errors.ts";

/** Where in a checkpoint something is wrong. */
export interface Place {
  readonly file: string;
  readonly tensor?: string;
  /** Bytes from the start of the file. */
  readonly offset?: number;
}

const maxQuotedCharacters = 120;

/**
 * The one error of this folder's readers: `CHECKPOINT_INVALID`, naming file, tensor and offset as
 * far as they are known.
 */
export function invalidCheckpoint(
  place: Place,
  fact: string,
  remedy = "Download the model again, or use another copy of it.",
  cause?: unknown,
): EngineError {
  const tensor = place.tensor === undefined ? "" : `tensor ${quote(place.tensor)}: `;
  const offset = place.offset === undefined ? "" : ` (at byte ${place.offset})`;
  const message = `${place.file}: ${tensor}${fact}${offset}`;
  return new EngineError("CHECKPOINT_INVALID", message, {
    remedy,
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Text from an untrusted file, fit for one line of a log: escaped and of bounded length. */
export function quote(text: string): string {
  const short =
    text.length > maxQuotedCharacters ? `${text.slice(0, maxQuotedCharacters)}...` : text;
  return JSON.stringify(short);
}
