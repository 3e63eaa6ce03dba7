import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync, unwatchFile, watchFile } from "node:fs";
import { EngineError } from "../errors.ts";

const pollMs = 1000;
const bearer = /^Bearer +(\S+) *$/i;

/**
 * The API keys of a file, one a line, `#` for comments. The file is read again within a second of a
 * change, also when a mounted Secret swaps the link behind it; while it cannot be read, or holds no
 * key, the keys before stay.
 */
export class ApiKeys {
  readonly #path: string;
  readonly #onReload: (error: unknown) => void;
  #digests: readonly Buffer[];

  /**
   * @param onReload called after each attempt to read a changed file, with the failure if there was one
   * @throws EngineError CONFIG_INVALID when the file cannot be read or holds no key
   */
  constructor(path: string, onReload: (error: unknown) => void) {
    this.#path = path;
    this.#onReload = onReload;
    this.#digests = readKeys(path);
    watchFile(path, { persistent: false, interval: pollMs }, this.#reload);
  }

  close(): void {
    unwatchFile(this.#path, this.#reload);
  }

  /** @throws EngineError UNAUTHORIZED */
  check(authorization: string | undefined): void {
    const key = bearer.exec(authorization ?? "")?.[1];
    if (key === undefined) {
      throw new EngineError("UNAUTHORIZED", "The request carries no API key", {
        remedy: "Send one as Authorization: Bearer <key>.",
      });
    }
    if (this.#accepts(key)) return;
    throw new EngineError("UNAUTHORIZED", "The API key is not known here", {
      remedy: "Use a key that the server's key file lists.",
    });
  }

  /** Takes the same time for every key of the same length: hashes are compared, all of them. */
  #accepts(key: string): boolean {
    const digest = digestOf(key);
    let accepted = false;
    for (const known of this.#digests) {
      if (timingSafeEqual(known, digest)) accepted = true;
    }
    return accepted;
  }

  readonly #reload = (): void => {
    try {
      this.#digests = readKeys(this.#path);
      this.#onReload(undefined);
    } catch (error) {
      this.#onReload(error);
    }
  };
}

function readKeys(path: string): readonly Buffer[] {
  let content: string;
  try {
    content = readFileSync(path, "utf8");
  } catch (error) {
    throw unreadable(path, error);
  }
  const keys = content
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  if (keys.length > 0) return keys.map(digestOf);
  throw new EngineError("CONFIG_INVALID", `The API key file ${path} holds no key`, {
    remedy: "Write one key a line, or leave QUIRE_API_KEY_FILE empty to ask for no key.",
  });
}

function unreadable(path: string, cause: unknown): EngineError {
  return new EngineError("CONFIG_INVALID", `The API key file ${path} cannot be read`, {
    remedy: "Correct QUIRE_API_KEY_FILE, or leave it empty to ask for no key.",
    cause,
  });
}

function digestOf(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}
