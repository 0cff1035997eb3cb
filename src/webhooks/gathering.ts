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
  /** There is something to look for in so long, or earlier: wakes then, at the latest after {@link REST_MS}. */
  wakeIn(ms: number): void;
}

/** From the end of an attempt to the claim for its place, and between two claims: without it a backlog was claimed by ones and twos. */
const GATHER_MS = 8;
const REST_MS = 1_000;

export function createGathering({ clock, wakeup, lastClaimAtMs }: GatheringDeps): Gathering {
  const gather = createTimer();
  const rest = createTimer();

  /** Wakes the loop once, however often it is begun meanwhile. */
  function createTimer(): (ms: number) => Promise<void> {
    let isWaiting = false;
    return async (ms) => {
      if (isWaiting) return;
      isWaiting = true;
      await clock.wait(ms);
      isWaiting = false;
      wakeup.wake();
    };
  }

  // not awaited, not even at the stop: they never reject, and hold the process open for no longer than they take
  const wakeSoon = () => void gather(GATHER_MS);

  return {
    wake() {
      if (performance.now() - lastClaimAtMs() < GATHER_MS) wakeSoon();
      else wakeup.wake();
    },
    wakeSoon,
    wakeIn: (ms) => void rest(Math.min(ms, REST_MS)),
  };
}
