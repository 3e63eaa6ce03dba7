/**
 * Requests that were sent to each replica and are not finished.
 *
 * A replica whose count is zero is forgotten, so the map stays as small as the fleet.
 */
export class InFlight {
  readonly #counts = new Map<string, number>();

  of(replica: string): number {
    return this.#counts.get(replica) ?? 0;
  }

  /** @returns what ends the request; calling it again changes nothing. */
  enter(replica: string): () => void {
    this.#counts.set(replica, this.of(replica) + 1);
    let entered = true;
    return () => {
      if (!entered) return;
      entered = false;
      const left = this.of(replica) - 1;
      if (left > 0) this.#counts.set(replica, left);
      else this.#counts.delete(replica);
    };
  }
}
