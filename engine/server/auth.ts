import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { EngineError } from "../errors.ts";

const defaultPollMs = 1000;
const bearer = /^Bearer +(\S+) *$/i;

/**
 * The API keys of a file, one a line, `#` for comments. The file is looked at every second, so that
 * a change counts also when a mounted Secret swaps the link behind it; while it cannot be read, or
 * holds no key, the keys before stay.
 */
export class ApiKeys {
  readonly #path: string;
  readonly #onReload: (error: unknown) => void;
  readonly #poll: NodeJS.Timeout;
  /** Content of the file, or why it could not be read, when it was last looked at. */
  #seen: string;
  #digests: readonly Buffer[];

  /**
   * @param onReload called after each change, with the failure if the file is unusable
   * @param pollMs time between two looks at the file
   * @throws EngineError CONFIG_INVALID when the file cannot be read or holds no key
   */
  constructor(path: string, onReload: (error: unknown) => void, pollMs = defaultPollMs) {
    this.#path = path;
    this.#onReload = onReload;
    const content = contentOf(path);
    this.#seen = String(content);
    this.#digests = digestsOf(content, path);
    this.#poll = setInterval(() => this.#look(), pollMs).unref();
  }

  close(): void {
    clearInterval(this.#poll);
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

  #look(): void {
    const content = contentOf(this.#path);
    if (String(content) === this.#seen) return;
    this.#seen = String(content);
    try {
      this.#digests = digestsOf(content, this.#path);
      this.#onReload(undefined);
    } catch (error) {
      this.#onReload(error);
    }
  }
}

function contentOf(path: string): string | EngineError {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    return unreadable(path, error);
  }
}

function digestsOf(content: string | EngineError, path: string): readonly Buffer[] {
  if (content instanceof EngineError) throw content;
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
