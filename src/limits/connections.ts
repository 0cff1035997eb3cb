/**
 * How many connections each principal holds, over all processes of an installation: WebSockets and event streams
 * together. Two implementations pass one conformance suite: `createMemoryConnectionLimit` for one process, and
 * `connectRedisConnectionLimit`.
 */
export interface ConnectionLimit {
  /**
   * Takes one place of the owner's; false if it has as many as it may. Never rejects, and resolves within about a second
   * whatever becomes of the store.
   */
  take(owner: string): Promise<boolean>;
  /** Gives a place back, once for each `take` that resolved to true. */
  release(owner: string): void;
  /** Places that this process holds, of all owners. */
  held(): number;
  /** Keeps what is held known to the other processes, until the signal aborts; never rejects. */
  run(signal: AbortSignal): Promise<void>;
  /** Gives all places back and lets go of the store. Twice is harmless. */
  close(): Promise<void>;
}

/**
 * What one of `nodes` equal processes may hold while none hears of the others: together no more than the limit, and at
 * least one each, so that nobody is shut out altogether.
 */
export function shareOf(limit: number, nodes: number): number {
  return Math.max(1, Math.floor(limit / Math.max(1, nodes)));
}
