import { setTimeout as wait } from 'node:timers/promises';

/** How far the writers may go, and how far they are. */
export interface Pace {
  /** Waits for leave to write up to so many events. @returns for how many it is; 0 when all are written or it was ended */
  take(count: number): Promise<number>;
  /** They were not written: somebody else may. */
  giveBack(count: number): void;
  /** They were written and acknowledged. */
  done(count: number): void;
  /** Writers may have written so many. */
  allow(upTo: number): void;
  /** Waits until so many are acknowledged. @throws Error if that takes too long, or the pace was ended */
  reaches(count: number): Promise<void>;
  /** Nobody may write any more. */
  end(): void;
}

export interface PaceOptions {
  readonly total: number;
  /** Events a second at most, so that what is measured is not how much this machine can carry. */
  readonly perSecond: number;
}

const REACHED_WITHIN_MS = 120_000;

export function createPace({ total, perSecond }: PaceOptions): Pace {
  let taken = 0;
  let acknowledged = 0;
  let allowed = 0;
  let isOver = false;
  const startedAt = performance.now();
  const due = () => Math.min(total, allowed, ((performance.now() - startedAt) / 1_000) * perSecond);
  return {
    async take(count) {
      while (!isOver && acknowledged < total) {
        const granted = Math.min(count, Math.floor(due() - taken));
        taken += Math.max(granted, 0);
        if (granted > 0) return granted;
        await wait(5);
      }
      return 0;
    },
    giveBack(count) {
      taken -= count;
    },
    done(count) {
      acknowledged += count;
    },
    allow(upTo) {
      allowed = Math.max(allowed, upTo);
    },
    async reaches(count) {
      const deadline = performance.now() + REACHED_WITHIN_MS;
      while (acknowledged < count) {
        if (isOver || performance.now() > deadline)
          throw new Error(`expected ${count} events to be written, ${acknowledged} were`);
        await wait(10);
      }
    },
    end() {
      isOver = true;
    },
  };
}
