import { basename, join } from "node:path";

import { cachedEntry } from "./cache.ts";
import { downloadFile } from "./http-download.ts";
import { displayUrl, requireSafeUrl } from "./http-request.ts";
import {
  formatBytes,
  limitsOf,
  type ResolvedModel,
  type ResolveOptions,
  sourceFailed,
} from "./resolve-options.ts";

const remedies = {
  access:
    "Put a user and password or a signed query into the URL, or use file:///path/to/model.gguf.",
  missing: "Check the URL.",
};

/**
 * One GGUF file from a web server: `https://…/model.gguf`, `http://` from this machine alone. A user
 * and password in the URL are sent as basic authentication; neither they nor the query are printed.
 *
 * The file is kept under its URL: a server that changes it is not asked again, unless `checksum`
 * differs from that of the kept file.
 *
 * @throws EngineError MODEL_SOURCE_FAILED, CHECKSUM_MISMATCH
 */
export async function resolveHttps(
  uri: string,
  options: ResolveOptions,
  checksum: string | undefined,
): Promise<ResolvedModel> {
  const { url, headers } = parse(uri);
  const fileName = basename(url.pathname);
  const name = {
    scheme: "https",
    label: `${url.hostname}-${fileName}`,
    identity: uri,
  } as const;
  const { folder } = await cachedEntry(name, options, checksum, async (staging) => {
    const message = `downloading ${displayUrl(url)}`;
    staging.onProgress({ phase: "Downloading", doneBytes: 0, totalBytes: 0, message });
    const sha256 = await downloadFile({
      url,
      headers,
      remedies,
      target: join(staging.folder, fileName),
      limits: limitsOf(options),
      signal: staging.signal,
      onBytes: (doneBytes, totalBytes) =>
        staging.onProgress({
          phase: "Downloading",
          doneBytes,
          totalBytes,
          message: `${message} (${formatBytes(totalBytes)})`,
        }),
    });
    return [{ name: fileName, sha256 }];
  });
  return { path: join(folder, fileName) };
}

function parse(uri: string): { url: URL; headers: Record<string, string> } {
  const url = URL.parse(uri);
  if (url === null || !/\/\w[^/\\%]*\.gguf$/i.test(url.pathname)) {
    throw sourceFailed(
      `${url === null ? uri : displayUrl(url)} does not name a GGUF file`,
      "Write https://host/path/model.gguf; a model of several files comes by hf:// or file://.",
    );
  }
  const { username, password } = requireSafeUrl(url);
  if (username === "" && password === "") return { url, headers: {} };
  const user = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  url.username = "";
  url.password = "";
  return { url, headers: { authorization: `Basic ${Buffer.from(user).toString("base64")}` } };
}
