import { UpError } from "./up-error.ts";

/**
 * Asks one question and passes the answer on as it comes.
 *
 * @returns the number of pieces that it came in
 * @throws UpError when the endpoint refuses or the answer breaks off
 */
export async function ask(
  address: string,
  body: object,
  onText: (text: string) => void,
): Promise<number> {
  const response = await fetch(`${address}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true }),
  });
  if (!response.ok || response.body === null) {
    throw new UpError(`the endpoint answered HTTP ${response.status}: ${await response.text()}`);
  }
  let pieces = 0;
  let rest = "";
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const piece = pieceOf(line);
      if (piece === "") continue;
      pieces++;
      onText(piece);
    }
  }
  return pieces;
}

interface StreamEvent {
  readonly choices?: readonly { readonly delta?: { readonly content?: string | null } }[];
  readonly error?: { readonly message: string };
}

function pieceOf(line: string): string {
  if (!line.startsWith("data: ") || line === "data: [DONE]") return "";
  const { choices, error } = JSON.parse(line.slice("data: ".length)) as StreamEvent;
  if (error !== undefined) throw new UpError(error.message);
  return choices?.[0]?.delta?.content ?? "";
}
