import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { requireSpace } from "./disk-space.ts";
import {
  bodyOf,
  displayUrl,
  get,
  type Remedies,
  TransientError,
  withRetries,
  withStallDeadline,
} from "./http-request.ts";
import { PartFile, type PartOrigin } from "./part-file.ts";
import { type DownloadLimits, sourceFailed } from "./resolve-options.ts";

export interface Download {
  readonly url: URL;
  /** `authorization` goes to the URL's origin only. */
  readonly headers: Readonly<Record<string, string>>;
  readonly target: string;
  /** The size that is known from elsewhere. */
  readonly expectedBytes?: number;
  readonly remedies: Remedies;
  readonly limits: DownloadLimits;
  readonly signal: AbortSignal;
  readonly onBytes: (doneBytes: number, totalBytes: number) => void;
}

const byHand = "Download the file by other means and use file:///path/to/model.gguf.";

/**
 * Downloads one file, going on where an earlier attempt of this or of another process ended, as long
 * as the server says that the file is still the same.
 *
 * @returns the SHA-256 of the whole file.
 * @throws EngineError MODEL_SOURCE_FAILED, TransientError when no attempt is left.
 */
export async function downloadFile(download: Download): Promise<string> {
  const { limits, signal } = download;
  const part = await PartFile.open(download.target);
  let furthest = part.size;
  try {
    await withRetries(
      limits,
      (milliseconds) => sleep(milliseconds, undefined, { signal }),
      () => attempt(part, download),
      () => {
        const progressed = part.size >= furthest + limits.minProgressBytes;
        furthest = Math.max(furthest, part.size);
        return progressed;
      },
    );
    return await part.finish();
  } finally {
    await part.close();
  }
}

async function attempt(part: PartFile, download: Download): Promise<void> {
  if (part.isComplete) return;
  const { url, limits, remedies } = download;
  await withStallDeadline(url, limits.stallMs, download.signal, async (signal, onSign) => {
    const response = await get(url, requestHeaders(part, download), signal, remedies);
    const soFar = () => ` after ${part.size} of ${part.origin?.totalBytes} bytes`;
    await receive(part, bodyOf(response, url, signal, onSign, soFar), response, download);
  });
}

function requestHeaders(part: PartFile, download: Download): Record<string, string> {
  // Compressed on the way, neither sizes nor ranges would be those of the file.
  const headers = { ...download.headers, "accept-encoding": "identity" };
  const validator = part.origin?.validator;
  if (part.size === 0 || validator === undefined) return headers;
  return { ...headers, range: `bytes=${part.size}-`, "if-range": validator };
}

async function receive(
  part: PartFile,
  body: AsyncIterable<Uint8Array>,
  response: Response,
  download: Download,
): Promise<void> {
  const where = displayUrl(download.url);
  const total = await begin(part, response, download).catch(async (error) => {
    await response.body?.cancel();
    throw error;
  });
  for await (const bytes of body) {
    if (part.size + bytes.length > total) {
      throw sourceFailed(`${where} sends more than the ${total} bytes that it announced`, byHand);
    }
    await part.append(bytes);
    download.onBytes(part.size, total);
  }
  if (part.size === total) return;
  const failure = `${where} sent ${part.size} bytes of the ${total} that it announced`;
  throw new TransientError(sourceFailed(failure, byHand));
}

/** Decides where the body belongs. @returns the size of the whole file. */
async function begin(part: PartFile, response: Response, download: Download): Promise<number> {
  const where = displayUrl(download.url);
  const encoding = response.headers.get("content-encoding");
  if (encoding !== null && encoding !== "identity") {
    throw sourceFailed(`${where} compresses the file with ${encoding}`, byHand);
  }
  if (response.status === 200) {
    const origin = originOf(response, download);
    await requireSpace(dirname(download.target), origin.totalBytes);
    await part.restart(origin);
    return origin.totalBytes;
  }
  const range = parseContentRange(response.headers.get("content-range"));
  const total = part.origin?.totalBytes;
  if (response.status === 206 && range?.start === part.size && range.total === total) {
    return range.total;
  }
  await part.restart(undefined);
  const failure = `${where} answers ${response.status} with a range that was not asked for`;
  throw new TransientError(sourceFailed(failure, byHand));
}

function originOf(response: Response, download: Download): PartOrigin {
  const where = displayUrl(download.url);
  const length = response.headers.get("content-length");
  const announced = length === null ? undefined : Number(length);
  const expected = download.expectedBytes;
  const totalBytes = announced ?? expected;
  if (totalBytes === undefined || !Number.isSafeInteger(totalBytes)) {
    throw sourceFailed(`${where} does not say how long the file is`, byHand);
  }
  if (expected !== undefined && totalBytes !== expected) {
    const fact = `${where} announces ${totalBytes} bytes, but the file has ${expected}`;
    throw sourceFailed(fact, "Start again; if it stays so, the server is at fault.");
  }
  return { totalBytes, validator: validatorOf(response.headers) };
}

/** `If-Range` needs a strong validator (RFC 9110, 13.1.5). */
function validatorOf(headers: Headers): string | undefined {
  const etag = headers.get("etag");
  if (etag !== null) return etag.startsWith("W/") ? undefined : etag;
  return headers.get("last-modified") ?? undefined;
}

function parseContentRange(value: string | null): { start: number; total: number } | undefined {
  const [, start, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(value ?? "") ?? [];
  return start === undefined ? undefined : { start: Number(start), total: Number(total) };
}
