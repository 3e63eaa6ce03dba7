/**
 * Clients of `stream-cost.ts`, in a process of their own: `stream-readers.ts URL COUNT TOKENS STREAM`
 * asks for completions at once, as streams if the last word is `stream`, and reads them to the end.
 */
import { request as send } from "node:http";

const [url = "", countText = "", tokensText = "", kind = ""] = process.argv.slice(2);

await Promise.all(Array.from({ length: Number(countText) }, ask));
process.disconnect?.();

function ask(): Promise<void> {
  const body = JSON.stringify({
    ...{ model: "tiny", prompt: "a b c", temperature: 0, ignore_eos: true },
    ...{ max_tokens: Number(tokensText), stream: kind === "stream" },
  });
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const request = send(`${url}/completions`, { method: "POST", headers });
    request.on("error", reject);
    request.on("response", (response) => {
      response.on("error", reject);
      response.on("end", () => {
        if (response.statusCode === 200) resolve();
        else reject(new Error(`HTTP ${response.statusCode} from ${url}`));
      });
      response.resume();
    });
    request.end(body);
  });
}
