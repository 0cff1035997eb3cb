/** How long a claim took, by a monotonic clock. */
export interface ClaimTime {
  readonly atMs: number;
  readonly endedAtMs: number;
  readonly claimed: number;
  /** Whether it has looked at all webhooks that have something to send. */
  readonly isWalk: boolean;
}

/**
 * How often a claim may look at all webhooks that have something to send, also at those that are held or hang: a step for
 * each. A thousand took 12 ms of each claim, and cost the others a tenth of their throughput.
 */
export interface WalkPace {
  /** Until the next may look at all; 0: it may at once. */
  restMs(nowMs: number): number;
  note(time: ClaimTime): void;
}

/** Of what a walk takes is rested after it: a sixteenth of one connection's time goes into walks, at most. */
const RESTS = 16;
/** Walks of which the shortest counts: others were held up by something else. */
const LAST = 8;
/** What a claimed row costs, before it was measured. */
const ROW_MS = 0.05;

/** The first claim walks. */
export function createWalkPace(): WalkPace {
  const walksMs: number[] = [];
  let rowMs = ROW_MS;
  let dueAtMs = 0;
  return {
    restMs: (nowMs) => Math.max(dueAtMs - nowMs, 0),
    note({ atMs, endedAtMs, claimed, isWalk }) {
      const tookMs = endedAtMs - atMs;
      // what each row costs is seen where nothing else was done
      if (!isWalk && claimed > 0) rowMs = rowMs * 0.9 + (tookMs / claimed) * 0.1;
      if (!isWalk) return;
      walksMs.push(Math.max(tookMs - claimed * rowMs, 0));
      if (walksMs.length > LAST) walksMs.shift();
      dueAtMs = endedAtMs + RESTS * Math.min(...walksMs);
    },
  };
}
