import type { Clock } from '../runtime/clock.ts';
import type { Wakeup } from '../runtime/loop.ts';

export interface GatheringDeps {
  readonly clock: Pick<Clock, 'wait'>;
  readonly wakeup: Pick<Wakeup, 'wake'>;
  /** When the last claim began, monotonic. */
  readonly lastClaimAtMs: () => number;
}

/** Wakes the loop of a worker, but not for each of a swarm: a claim for each would cost more than it brings. */
export interface Gathering {
  /** Something has come: wakes at once, or soon where the last claim was just now. Stamps come in swarms under load. */
  wake(): void;
  /** A place is free: wakes soon. Ends come in swarms, as their results are written together. */
  wakeSoon(): void;
}

/** From the end of an attempt to the claim for its place, and between two claims: without it a backlog was claimed by ones and twos. */
const GATHER_MS = 8;

export function createGathering({ clock, wakeup, lastClaimAtMs }: GatheringDeps): Gathering {
  let isGathering = false;

  async function gather(): Promise<void> {
    isGathering = true;
    await clock.wait(GATHER_MS);
    isGathering = false;
    wakeup.wake();
  }

  function wakeSoon(): void {
    // not awaited, not even at the stop: it never rejects, and holds the process open for no longer than it takes
    if (!isGathering) void gather();
  }

  return {
    wake() {
      if (performance.now() - lastClaimAtMs() < GATHER_MS) wakeSoon();
      else wakeup.wake();
    },
    wakeSoon,
  };
}
