import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Backoff, backoffMs } from './backoff.ts';
import { type Clock, systemClock } from './clock.ts';
import { type Observe, observeNothing } from './observe.ts';

/** A hint that there may be work. Hints coalesce: any number given while the loop is busy make it look once more. */
export interface Wakeup {
  /** Gives the hint; never blocks, never throws, harmless when nobody waits. */
  wake(): void;
  /** Forgets a hint given so far. The loop does so before each unit, which will see what the hint was about. */
  clear(): void;
  /** Resolves at the next hint (at once if one was given since `clear`), after `ms`, or when the signal aborts. */
  wait(ms: number, options: { readonly clock: Clock; readonly signal: AbortSignal }): Promise<void>;
}

export interface LoopOptions {
  /** Names the loop in observations. */
  readonly name: string;
  /** The poll interval in milliseconds: the longest an idle loop rests, hints or no hints. */
  readonly everyMs: number;
  /**
   * One unit of work. 'more' asks to be called again at once, 'idle' to rest until a hint or the poll interval.
   * A throw is a failed unit: the loop backs off and calls again. The loop sets no time limit: `work` bounds its own
   * waits. The signal aborts when the loop is asked to stop, for units that can end early.
   */
  work(signal: AbortSignal): Promise<'more' | 'idle'>;
  /** Hints; one `Wakeup` serves one loop. Without it the loop only polls. */
  readonly wakeup?: Wakeup;
  /** Told `loop.failed` at the first failure in a row and `loop.recovered` at the success after it. */
  readonly observe?: Observe;
  /** Aborting it stops the loop after the unit in hand; aborting again does nothing. */
  readonly signal: AbortSignal;
  readonly clock?: Clock;
  /** @default { baseMs: 100, capMs: 5_000 } */
  readonly backoff?: Backoff;
  /** A number in [0, 1). @default Math.random */
  readonly random?: () => number;
}

/** Failures in a row, and since when. */
interface Streak {
  count: number;
  sinceMs: number;
}

/**
 * The shape of every background loop: work, again at once if there is more, else rest until a hint or the poll interval.
 *
 * States: *working* (a unit runs), *resting* (after 'idle'; left by a hint, the interval or the abort), *backing off*
 * (after a throw; left by the wait's end or the abort, not by hints, which would turn an outage into a hot loop: the
 * next unit serves them), *stopped*. Resolves when stopped, after the unit in hand; never rejects.
 */
export async function runLoop(options: LoopOptions): Promise<void> {
  const { name, everyMs, work, signal, wakeup = createWakeup(), observe = observeNothing } = options;
  const { clock = systemClock, backoff = { baseMs: 100, capMs: 5_000 }, random = Math.random } = options;
  const streak: Streak = { count: 0, sinceMs: 0 };

  while (!signal.aborted) {
    wakeup.clear();
    try {
      const outcome = await work(signal);
      reportRecovery();
      // A unit may be done in microtasks alone (PGlite, an empty batch): without a turn of the event loop in between,
      // sockets, timers and the abort itself would starve behind a long backlog.
      if (outcome === 'more') await nextTurn();
      else await wakeup.wait(everyMs, { clock, signal });
    } catch (error) {
      if (signal.aborted && isAbort(error, signal)) break;
      reportFailure(error);
      await clock.wait(backoffMs(streak.count - 1, backoff, random), signal);
    }
  }

  function reportFailure(error: unknown): void {
    streak.count += 1;
    if (streak.count > 1) return;
    streak.sinceMs = clock.now();
    observe({ name: 'loop.failed', loop: name, error });
  }

  function reportRecovery(): void {
    if (streak.count === 0) return;
    observe({ name: 'loop.recovered', loop: name, failures: streak.count, down_ms: clock.now() - streak.sinceMs });
    streak.count = 0;
  }
}

/** A unit that ended because it was asked to has not failed. */
function isAbort(error: unknown, signal: AbortSignal): boolean {
  return error === signal.reason || (error instanceof Error && error.name === 'AbortError');
}

/** Makes the hint of one loop. */
export function createWakeup(): Wakeup {
  let hinted = false;
  let rest: AbortController | undefined;
  return {
    wake() {
      hinted = true;
      rest?.abort('hinted'); // without a reason, an error with its stack is made for each hint
    },
    clear() {
      hinted = false;
    },
    async wait(ms, { clock, signal }) {
      if (hinted || signal.aborted) return;
      const resting = new AbortController();
      rest = resting;
      const stop = () => resting.abort('stopped');
      signal.addEventListener('abort', stop, { once: true });
      await clock.wait(ms, resting.signal);
      signal.removeEventListener('abort', stop);
      rest = undefined;
    },
  };
}
