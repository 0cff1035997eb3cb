import { getEventListeners } from 'node:events';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { backoffMs } from '../src/runtime/backoff.ts';
import type { Clock } from '../src/runtime/clock.ts';
import { createWakeup, type LoopOptions, runLoop } from '../src/runtime/loop.ts';
import { createMailbox, type Mailbox } from '../src/runtime/mailbox.ts';
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

describe('createMailbox', () => {
  const unexpected = () => {
    throw new Error('overflowed');
  };
  const open = <T>(options: { capacity?: number; onClose?: () => void; signal?: AbortSignal } = {}) =>
    createMailbox<T>({ capacity: 100, onOverflow: unexpected, ...options });

  it('gives every item once, in order, whoever is faster', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.constant('read' as const), fc.nat(9)), { maxLength: 60 }),
        async (script) => {
          const mailbox = open<number>();
          const pushed: number[] = [];
          const reads: Promise<IteratorResult<number, undefined>>[] = [];
          for (const step of script) {
            if (step === 'read') reads.push(mailbox.next());
            else pushed.push(mailbox.push(step) ? step : Number.NaN);
          }
          mailbox.end();
          const read = (await Promise.all(reads)).flatMap((result) => (result.done ? [] : [result.value]));
          for await (const item of mailbox) read.push(item);
          expect(read).toEqual(pushed);
          expect(mailbox.size).toBe(0);
        },
      ),
    );
  });

  it('holds no more than its capacity, and says so of each item that does not fit', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(50), fc.array(fc.string({ maxLength: 20 })), async (capacity, texts) => {
        let overflows = 0;
        const mailbox = createMailbox<string>({
          capacity,
          sizeOf: (text) => text.length,
          onOverflow: () => {
            overflows += 1;
          },
        });
        const taken = texts.filter((text) => mailbox.push(text));
        expect(mailbox.size).toBe(taken.join('').length);
        expect(mailbox.size).toBeLessThanOrEqual(capacity);
        expect(overflows).toBe(texts.length - taken.length);
        mailbox.end();
        expect(await Array.fromAsync(mailbox)).toEqual(taken);
      }),
    );
  });

  it('lets the overflow callback fail it', async () => {
    const slow = new Error('slow consumer');
    const mailbox: Mailbox<number> = createMailbox({ capacity: 1, onOverflow: (full) => full.fail(slow) });
    expect([mailbox.push(1), mailbox.push(2), mailbox.push(3)]).toEqual([true, false, false]);
    await expect(mailbox.next()).rejects.toBe(slow);
    expect(await mailbox.next()).toEqual({ done: true, value: undefined });
  });

  it('hands an item of any size to a reader that waits', async () => {
    const mailbox = open<string>({ capacity: 0 });
    const read = mailbox.next();
    expect(mailbox.push('whatever')).toBe(true);
    expect(await read).toEqual({ done: false, value: 'whatever' });
  });

  it('settles a pending next() when it is returned, aborted, ended or failed', async () => {
    const error = new Error('revoked');
    const ways: readonly [string, (mailbox: Mailbox<number>, aborting: AbortController) => unknown, unknown][] = [
      ['returned', (mailbox) => mailbox.return(), { done: true, value: undefined }],
      ['aborted', (_, aborting) => aborting.abort(), { done: true, value: undefined }],
      ['ended', (mailbox) => mailbox.end(), { done: true, value: undefined }],
      ['failed', (mailbox) => mailbox.fail(error), error],
    ];
    for (const [name, close, expected] of ways) {
      const aborting = new AbortController();
      const closes: string[] = [];
      const mailbox = open<number>({ signal: aborting.signal, onClose: () => closes.push(name) });
      const [first, second] = [mailbox.next(), mailbox.next()];
      close(mailbox, aborting);
      expect(await first.catch((reason: unknown) => reason), name).toEqual(expected);
      expect(await second, name).toEqual({ done: true, value: undefined });
      expect(mailbox.push(1), name).toBe(false);
      await mailbox.return();
      mailbox.end();
      mailbox.fail(error);
      expect(closes).toEqual([name]);
      expect(getEventListeners(aborting.signal, 'abort')).toEqual([]);
      expect(await mailbox.next(), name).toEqual({ done: true, value: undefined });
    }
  });

  it('discards what waits when it is returned, aborted or failed, not when it is ended', async () => {
    const aborting = new AbortController();
    const sizes = [
      (mailbox: Mailbox<number>) => mailbox.end(),
      (mailbox: Mailbox<number>) => mailbox.fail(new Error('revoked')),
      (mailbox: Mailbox<number>) => void mailbox.return(),
      () => aborting.abort(),
    ].map((close) => {
      const mailbox = open<number>({ signal: aborting.signal });
      mailbox.push(1);
      close(mailbox);
      return mailbox.size;
    });
    expect(sizes).toEqual([1, 0, 0, 0]);
  });

  it('is closed from the start by an aborted signal', async () => {
    const closes: string[] = [];
    const mailbox = open<number>({ signal: AbortSignal.abort(), onClose: () => closes.push('closed') });
    expect(mailbox.push(1)).toBe(false);
    expect(closes).toEqual(['closed']);
    expect(await mailbox.next()).toEqual({ done: true, value: undefined });
  });

  it('can be left while its next() is pending, which an async generator can not', async () => {
    const quiet = Promise.withResolvers<void>();
    async function* generator() {
      await quiet.promise;
      yield 1;
    }
    const leaves = async (iterator: AsyncIterator<number>) => {
      void iterator.next();
      const left = Promise.resolve(iterator.return?.()).then(() => 'left');
      const stuck = new Promise((resolve) => setTimeout(resolve, 50, 'stuck'));
      return Promise.race([left, stuck]);
    };
    expect(await leaves(open<number>())).toBe('left');
    expect(await leaves(generator())).toBe('stuck');
    quiet.resolve();
  });
});
