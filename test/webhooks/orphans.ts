import type { LoggedClaim } from './claim-log.ts';
import type { StormEvidence } from './kill-check.ts';

/** What is needed besides to tell how long each was waited for. */
export interface OrphanEvidence extends StormEvidence {
  /** In the order of their times. */
  readonly claims: readonly LoggedClaim[];
  /** When workers began to work, by name. */
  readonly startedAtMs: ReadonlyMap<string, number>;
}

/**
 * A delivery that was in flight in a worker when it was killed. Claimed again by one that is killed in its turn, it is another one
 * with a clock of its own.
 */
export interface Orphan {
  readonly deliveryId: string;
  readonly path: string;
  /** From the kill to the next claim. */
  readonly claimedAfterMs: number;
  /** How much of that time a worker lived that might have claimed it. */
  readonly livedMs: number;
  /** From the kill to the end of the delivery, however many kills came between. */
  readonly endedAfterMs: number;
}

/** Those that were claimed again. */
export function orphansOf(evidence: OrphanEvidence): Orphan[] {
  const { requests, claims, killedAtMs, done } = evidence;
  const first = new Map(requests.toReversed().map((request) => [`${request.deliveryId} ${request.sender}`, request]));
  const finished = new Map(done.map(({ id, finishedAtMs }) => [id, finishedAtMs]));
  const livedMs = livedMsIn(evidence);
  return [...Map.groupBy(claims, ({ deliveryId }) => deliveryId).values()].flatMap((chain) =>
    chain.slice(1).flatMap(({ deliveryId, atMs }, at) => {
      const holder = chain[at]?.sender ?? '';
      const killed = killedAtMs.get(holder);
      const sent = first.get(`${deliveryId} ${holder}`);
      if (killed === undefined || sent === undefined || killed > atMs || sent.atMs > killed) return [];
      const endedAfterMs = (finished.get(deliveryId) ?? Number.POSITIVE_INFINITY) - killed;
      const { path } = sent;
      return [{ deliveryId, path, claimedAfterMs: atMs - killed, livedMs: livedMs(killed, atMs), endedAfterMs }];
    }),
  );
}

/** Gives how much of a time at least one worker lived. */
function livedMsIn({ startedAtMs, killedAtMs }: OrphanEvidence): (fromMs: number, toMs: number) => number {
  const lives = [...startedAtMs]
    .map(([name, from]) => ({ from, to: killedAtMs.get(name) ?? Number.POSITIVE_INFINITY }))
    .sort((a, b) => a.from - b.from);
  return (fromMs, toMs) => {
    let lived = 0;
    let seenToMs = fromMs;
    for (const { from, to } of lives) {
      const upToMs = Math.min(to, toMs);
      lived += Math.max(upToMs - Math.max(from, seenToMs), 0);
      seenToMs = Math.max(seenToMs, upToMs);
    }
    return lived;
  };
}
