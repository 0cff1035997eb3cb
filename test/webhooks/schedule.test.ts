import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkRetries, MAX_ATTEMPTS, scheduleOf } from '../../src/webhooks/pace.ts';
import {
  DEFAULT_SCHEDULE,
  JITTER,
  MAX_RETRY_AFTER_MS,
  nextAttemptDelayMs,
  type Schedule,
} from '../../src/webhooks/schedule.ts';

const { delaysMs } = DEFAULT_SCHEDULE;
const made = fc.integer({ min: 1, max: delaysMs.length });
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const seconds = fc.integer({ min: 1, max: 604_800 });
const base = (attempts: number) => delaysMs[attempts - 1] ?? Number.NaN;
const next = (attempts: number, dice: number, more = {}) =>
  nextAttemptDelayMs(DEFAULT_SCHEDULE, { made: attempts, elapsedMs: 0, random: dice, ...more });

/** The waits of a delivery that always fails. */
function runDown(schedule: Schedule, dice: () => number): number[] {
  const waits: number[] = [];
  for (let elapsedMs = 0; waits.length <= MAX_ATTEMPTS * 2; ) {
    const wait = nextAttemptDelayMs(schedule, { made: waits.length + 1, elapsedMs, random: dice() });
    if (wait === undefined) return waits;
    waits.push(wait);
    elapsedMs += wait;
  }
  throw new Error('the schedule does not end');
}

describe('the retry schedule', () => {
  it('runs over three days in ten attempts', () => {
    const [s, min, h] = [1_000, 60_000, 3_600_000];
    expect(runDown(DEFAULT_SCHEDULE, () => 0.5)).toEqual([
      5 * s,
      5 * min,
      30 * min,
      ...[2, 5, 10, 14, 20, 24].map((n) => n * h),
    ]);
  });

  it('keeps every wait within the stated jitter, and uses all of it', () => {
    fc.assert(
      fc.property(made, random, (attempts, dice) => {
        const delay = next(attempts, dice) ?? Number.NaN;
        expect(Number.isInteger(delay)).toBe(true);
        expect(Math.abs(delay - base(attempts))).toBeLessThanOrEqual(base(attempts) * JITTER + 0.5);
      }),
    );
    expect(next(1, 0)).toBe(4_500);
    expect(next(1, 0.999_999)).toBe(5_500);
  });

  it('spreads waits evenly over the jitter', () => {
    const waits = Array.from({ length: 1_000 }, () => next(4, Math.random()) ?? Number.NaN).sort((a, b) => a - b);
    const [low, high] = [base(4) * (1 - JITTER), base(4) * (1 + JITTER)];
    // Kolmogorov and Smirnov: the largest distance from the even spread; 2.3 / √n is passed once in 13,000 runs
    const distances = waits.map((wait, at) => Math.abs((at + 1) / waits.length - (wait - low) / (high - low)));
    expect(Math.max(...distances)).toBeLessThan(2.3 / Math.sqrt(waits.length));
  });

  it('honours Retry-After up to its cap, and is never shortened by it', () => {
    fc.assert(
      fc.property(made, random, fc.nat(2 ** 31), (attempts, dice, retryAfterMs) => {
        const plain = next(attempts, dice) ?? Number.NaN;
        expect(next(attempts, dice, { retryAfterMs })).toBe(
          Math.max(plain, Math.min(retryAfterMs, MAX_RETRY_AFTER_MS)),
        );
      }),
    );
  });

  it('ends after the last attempt, Retry-After or not', () => {
    fc.assert(
      fc.property(fc.integer({ min: delaysMs.length + 1, max: 1_000 }), random, (attempts, dice) => {
        expect(next(attempts, dice, { retryAfterMs: 1_000 })).toBeUndefined();
      }),
    );
  });
});

describe("a webhook's own schedule", () => {
  it('makes as many attempts as it has delays, and one', () => {
    fc.assert(
      fc.property(fc.array(seconds, { maxLength: 30 }), random, (delays, dice) => {
        expect(runDown(scheduleOf(checkRetries({ delays })), () => dice)).toHaveLength(delays.length);
      }),
    );
  });

  it('repeats its last delay until the window ends, and never goes past it', () => {
    const window = fc.integer({ min: 1, max: 1_209_600 });
    fc.assert(
      fc.property(
        fc.array(seconds, { minLength: 1, maxLength: 10 }),
        window,
        fc.infiniteStream(random),
        (delays, given, dice) => {
          const last = delays.at(-1) ?? 0;
          fc.pre(given / last < 50);
          const schedule = scheduleOf(checkRetries({ delays, window: given }));
          const waits = runDown(schedule, () => dice.next().value ?? 0);
          const spentMs = waits.reduce((sum, wait) => sum + wait, 0);
          expect(spentMs).toBeLessThanOrEqual(given * 1_000);
          // the next wait would not have fitted
          const following = (delays[waits.length] ?? last) * 1_000;
          expect(spentMs + following * (1 + JITTER) + 1).toBeGreaterThan(given * 1_000);
        },
      ),
    );
  });

  it('is not pushed out of its window by Retry-After', () => {
    const schedule = scheduleOf(checkRetries({ delays: [10], window: 60 }));
    const state = { made: 2, elapsedMs: 20_000, random: 0.5, retryAfterMs: 3_600_000 };
    expect(nextAttemptDelayMs(schedule, state)).toBe(40_000);
  });

  it.each([
    [{ delays: [0] }, 'retry.delays: expected 1 to 604800 seconds each, found 0'],
    [{ delays: [5, 604_801] }, 'retry.delays: expected 1 to 604800 seconds each, found 604801'],
    [{ window: 0 }, 'retry.window: expected 1 to 1209600 seconds, found 0'],
    [{ window: 1_209_601 }, 'retry.window: expected 1 to 1209600 seconds, found 1209601'],
    [{ delays: [], window: 60 }, 'retry.window needs a delay to repeat'],
    [{ delays: [1], window: 3_600 }, 'retry: expected at most 100 attempts, found 3601; lengthen the last delay'],
    [{ delays: Array(100).fill(1) }, 'retry: expected at most 100 attempts, found 101'],
  ])('is refused out of its bounds: %j', (input, message) => {
    expect(() => checkRetries(input)).toThrow(message);
  });
});
