import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { backoffMs } from '../src/runtime/backoff.ts';
import type { Clock } from '../src/runtime/clock.ts';
import { createWakeup, type LoopOptions, runLoop } from '../src/runtime/loop.ts';
import type { Observation } from '../src/runtime/observe.ts';
import { eventually } from './support/eventually.ts';

describe('backoffMs', () => {
  const backoff = fc.record({ baseMs: fc.nat(10_000), capMs: fc.nat(600_000) });
  const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

  it('stays in whole milliseconds below the ceiling, at any failure', () => {
    fc.assert(
      fc.property(fc.nat(), backoff, chance, (failure, given, random) => {
        const ms = backoffMs(failure, given, () => random);
        expect(Number.isInteger(ms)).toBe(true);
        expect(ms).toBeGreaterThanOrEqual(0);
        expect(ms).toBeLessThanOrEqual(Math.min(given.capMs, given.baseMs * 2 ** Math.min(failure, 50)));
      }),
    );
  });

  it('never shrinks with further failures at equal luck', () => {
    fc.assert(
      fc.property(fc.nat(100), backoff, chance, (failure, given, random) => {
        expect(backoffMs(failure + 1, given, () => random)).toBeGreaterThanOrEqual(
          backoffMs(failure, given, () => random),
        );
      }),
    );
  });

  it('doubles its ceiling until the cap', () => {
    const ceilings = [0, 1, 2, 3, 4, 5].map((failure) => backoffMs(failure, { baseMs: 100, capMs: 1_000 }, () => 0.5));
    expect(ceilings).toEqual([50, 100, 200, 400, 500, 500]);
  });
});

/** A clock that stands still: waits end when the test says, or by their signal. */
function standingClock() {
  const waits: { readonly ms: number; readonly end: () => void }[] = [];
  const clock: Clock = {
    now: () => 0,
    wait: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) return resolve();
        waits.push({ ms, end: resolve });
        signal?.addEventListener('abort', () => resolve(), { once: true });
      }),
  };
  return { clock, waits };
}

/** A loop whose units the test ends one by one. */
function startLoop(options: Partial<LoopOptions> = {}) {
  const units: PromiseWithResolvers<'more' | 'idle'>[] = [];
  const observed: Observation[] = [];
  const stopping = new AbortController();
  const { clock, waits } = standingClock();
  const stopped = runLoop({
    name: 'test',
    everyMs: 1_000,
    work: () => {
      const unit = Promise.withResolvers<'more' | 'idle'>();
      units.push(unit);
      return unit.promise;
    },
    observe: (observation) => observed.push(observation),
    signal: stopping.signal,
    clock,
    backoff: { baseMs: 100, capMs: 400 },
    random: () => 0.5,
    ...options,
  });
  const started = (count: number) => eventually(() => units.length === count, { everyMs: 0 });
  const waiting = (count: number) => eventually(() => waits.length === count, { everyMs: 0 });
  return { units, observed, waits, stopping, stopped, started, waiting };
}

describe('runLoop', () => {
  it('works again at once while there is more, else rests for the interval', async () => {
    const { units, waits, started, waiting, stopping, stopped } = startLoop();
    units[0]?.resolve('more');
    await started(2);
    expect(waits).toEqual([]);
    units[1]?.resolve('idle');
    await waiting(1);
    expect(waits[0]?.ms).toBe(1_000);
    expect(units).toHaveLength(2);
    waits[0]?.end();
    await started(3);
    units[2]?.resolve('idle');
    stopping.abort();
    await stopped;
  });

  it('ends its rest at a hint', async () => {
    const wakeup = createWakeup();
    const { units, started, waiting, stopping, stopped } = startLoop({ wakeup });
    units[0]?.resolve('idle');
    await waiting(1);
    wakeup.wake();
    await started(2);
    units[1]?.resolve('idle');
    stopping.abort();
    await stopped;
  });

  it('loses no hint given during the work, and coalesces them', async () => {
    const wakeup = createWakeup();
    const { units, waits, started, waiting, stopping, stopped } = startLoop({ wakeup });
    wakeup.wake();
    wakeup.wake();
    units[0]?.resolve('idle');
    await started(2);
    expect(waits).toEqual([]);
    units[1]?.resolve('idle');
    await waiting(1);
    stopping.abort();
    await stopped;
  });

  it('backs off from failures, deaf to hints, and reports their beginning and end', async () => {
    const wakeup = createWakeup();
    const { units, waits, observed, started, waiting, stopping, stopped } = startLoop({ wakeup });
    const error = new Error('no database');
    for (let failure = 0; failure < 4; failure += 1) {
      units[failure]?.reject(error);
      await waiting(failure + 1);
      wakeup.wake();
      expect(units).toHaveLength(failure + 1);
      waits[failure]?.end();
      await started(failure + 2);
    }
    expect(waits.map(({ ms }) => ms)).toEqual([50, 100, 200, 200]);
    expect(observed).toEqual([{ name: 'loop.failed', loop: 'test', error }]);
    units[4]?.resolve('idle');
    await waiting(5);
    expect(observed[1]).toEqual({ name: 'loop.recovered', loop: 'test', failures: 4, down_ms: 0 });
    stopping.abort();
    await stopped;
  });

  it('finishes the unit in hand when stopped, twice as well as once', async () => {
    const { units, stopping, stopped, observed } = startLoop();
    let isStopped = false;
    void stopped.then(() => {
      isStopped = true;
    });
    stopping.abort();
    stopping.abort();
    await new Promise(setImmediate);
    expect(isStopped).toBe(false);
    units[0]?.resolve('more');
    await stopped;
    expect(units).toHaveLength(1);
    expect(observed).toEqual([]);
  });

  it('stops out of a rest and out of a backoff, leaving no listener', async () => {
    for (const settle of ['idle', 'failure'] as const) {
      const { units, waiting, stopping, stopped } = startLoop();
      if (settle === 'idle') units[0]?.resolve('idle');
      else units[0]?.reject(new Error('no database'));
      await waiting(1);
      stopping.abort();
      await stopped;
      expect(units).toHaveLength(1);
    }
  });

  it('does not call a unit that was aborted a failure, but reports one that failed while stopping', async () => {
    for (const [error, names] of [
      [new DOMException('aborted', 'AbortError'), []],
      [new Error('no database'), ['loop.failed']],
    ] as const) {
      const { units, observed, stopping, stopped } = startLoop();
      stopping.abort();
      units[0]?.reject(error);
      await stopped;
      expect(observed.map(({ name }) => name)).toEqual(names);
    }
  });

  it('does not start when stopped before', async () => {
    const { units, stopped } = startLoop({ signal: AbortSignal.abort() });
    await stopped;
    expect(units).toEqual([]);
  });

  it('lets timers run between units that never leave the microtasks', async () => {
    const stopping = new AbortController();
    setTimeout(() => stopping.abort(), 5);
    await runLoop({ name: 'busy', everyMs: 1_000, work: async () => 'more', signal: stopping.signal });
  });
});
