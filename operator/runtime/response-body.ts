import type { IncomingMessage } from "node:http";

// A page of 500 Pods with everything that clusters add to them stays below a tenth of it.
const maxBodyBytes = 256 * 1024 * 1024;
// etcd refuses objects above 1.5 MiB.
const maxLineBytes = 16 * 1024 * 1024;
const newline = 0x0a;

export async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let byteCount = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    byteCount += chunk.length;
    if (byteCount > maxBodyBytes) {
      response.destroy();
      throw new Error(`the answer is longer than ${maxBodyBytes} bytes`);
    }
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Lines without their ends; empty ones are left out, and what no newline ended is not a line. */
export async function* readLines(response: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  for await (const chunk of response) {
    let start = 0;
    for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, start)) {
      const line = Buffer.concat([...rest, chunk.subarray(start, end)]).toString("utf8");
      rest = [];
      restBytes = 0;
      start = end + 1;
      if (line !== "") yield line;
    }
    if (start < chunk.length) {
      rest.push(chunk.subarray(start));
      restBytes += chunk.length - start;
    }
    if (restBytes > maxLineBytes) throw new Error(`a line is longer than ${maxLineBytes} bytes`);
  }
}
