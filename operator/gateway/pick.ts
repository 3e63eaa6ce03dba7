import type { Replica } from "./replicas.ts";

/** A replica that fills up to this factor of the mean passes further requests on. */
const loadBound = 1.25;

export interface Candidate {
  readonly replica: Replica;
  /** Requests that the gateway has sent there and that are not finished. */
  readonly inFlight: number;
}

/**
 * Chooses the replica of one request.
 *
 * With a key it is rendezvous hashing with bounded load: each key ranks the replicas in its own
 * order, which stays as it is when others come and go, and the first one in that order with room
 * takes the request (Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads",
 * 2016). Without a key the replica with the fewest requests in flight takes it; `turn`, a running
 * count, settles ties so that an idle fleet is used evenly.
 *
 * @returns `undefined` when there is no candidate.
 */
export function pickReplica(
  candidates: readonly Candidate[],
  key: string | undefined,
  turn: number,
): Replica | undefined {
  if (candidates.length === 0) return undefined;
  if (key === undefined) return leastLoaded(candidates, turn);

  const total = candidates.reduce((sum, { inFlight }) => sum + inFlight, 0);
  const bound = Math.ceil((loadBound * (total + 1)) / candidates.length);
  // Never empty: not all can be above the mean.
  const withRoom = candidates.filter(({ inFlight }) => inFlight < bound);
  return withRoom
    .map(({ replica }) => ({ replica, rank: hashOf(`${replica.name}\n${key}`) }))
    .reduce((best, other) => (other.rank > best.rank ? other : best)).replica;
}

function leastLoaded(candidates: readonly Candidate[], turn: number): Replica | undefined {
  const fewest = Math.min(...candidates.map(({ inFlight }) => inFlight));
  const idlest = candidates.filter(({ inFlight }) => inFlight === fewest);
  return idlest[turn % idlest.length]?.replica;
}

/** FNV-1a over UTF-16 units, then murmur3's 32-bit finalizer: FNV alone ranks similar keys alike. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
