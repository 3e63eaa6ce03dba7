import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { errorBody } from "./gateway-error.ts";
import type { UpstreamAnswer } from "./upstream.ts";

/** How a relayed answer ended. */
export type RelayEnd = "complete" | "client-gone" | "replica-lost";

/**
 * Writes an engine's answer to the client as it comes, never faster than the client reads.
 *
 * An engine that is lost in the middle of an event stream is reported by a last `error` event, which
 * OpenAI's clients raise as an exception; any other answer is cut off, so that nobody takes it for
 * whole. A client that leaves ends the answer at the engine through the signal that it was sent with.
 */
export async function relay(
  answer: UpstreamAnswer,
  client: ServerResponse,
  replicaName: string,
): Promise<RelayEnd> {
  client.writeHead(answer.status, [...answer.rawHeaders, "x-quire-replica", replicaName]);
  let chunk = answer.firstChunk;
  try {
    while (chunk !== undefined) {
      if (!client.write(chunk)) await drained(client);
      if (client.destroyed) return "client-gone";
      const next = await answer.rest.next();
      chunk = next.done === true ? undefined : next.value;
    }
  } catch {
    // The iterator fails for two reasons only: the client left, or the engine did.
    return client.destroyed ? "client-gone" : endBroken(answer, client, replicaName);
  }
  client.end();
  return "complete";
}

async function drained(client: ServerResponse): Promise<void> {
  const settled = new AbortController();
  const { signal } = settled;
  await Promise.race([
    once(client, "drain", { signal }),
    once(client, "close", { signal }),
  ]).finally(() => settled.abort());
}

function endBroken(answer: UpstreamAnswer, client: ServerResponse, replicaName: string): RelayEnd {
  if (answer.isEventStream) {
    const message = `replica ${replicaName} was lost in the middle of the answer. Send the request again.`;
    // The blank line first: it ends an event that was cut off in the middle.
    client.end(`\n\ndata: ${JSON.stringify(errorBody(502, "replica_lost", message))}\n\n`);
  } else {
    client.destroy();
  }
  return "replica-lost";
}
