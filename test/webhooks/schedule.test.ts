import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ATTEMPT_DELAYS_MS,
  JITTER,
  MAX_RETRY_AFTER_MS,
  nextAttemptDelayMs,
  parseRetryAfter,
} from '../../src/webhooks/schedule.ts';

const attempt = fc.integer({ min: 0, max: ATTEMPT_DELAYS_MS.length - 1 });
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const base = (made: number) => ATTEMPT_DELAYS_MS[made] ?? Number.NaN;

describe('the retry schedule', () => {
  it('runs over three days in ten attempts', () => {
    const delays = ATTEMPT_DELAYS_MS.map((_, made) => nextAttemptDelayMs({ attempt: made, random: 0.5 }));
    const [s, min, h] = [1_000, 60_000, 3_600_000];
    expect(delays).toEqual([0, 5 * s, 5 * min, 30 * min, 2 * h, 5 * h, 10 * h, 14 * h, 20 * h, 24 * h]);
  });

  it('sends the first attempt at once, whatever the dice say', () => {
    fc.assert(
      fc.property(random, (dice) => {
        expect(nextAttemptDelayMs({ attempt: 0, random: dice })).toBe(0);
      }),
    );
  });

  it('keeps every wait within the stated jitter, and uses all of it', () => {
    fc.assert(
      fc.property(attempt, random, (made, dice) => {
        const delay = nextAttemptDelayMs({ attempt: made, random: dice }) ?? Number.NaN;
        expect(Number.isInteger(delay)).toBe(true);
        expect(Math.abs(delay - base(made))).toBeLessThanOrEqual(base(made) * JITTER + 0.5);
      }),
    );
    expect(nextAttemptDelayMs({ attempt: 1, random: 0 })).toBe(4_500);
    expect(nextAttemptDelayMs({ attempt: 1, random: 0.999_999 })).toBe(5_500);
  });

  it('honours Retry-After up to its cap, and is never shortened by it', () => {
    fc.assert(
      fc.property(attempt, random, fc.nat(2 ** 31), (made, dice, retryAfterMs) => {
        const plain = nextAttemptDelayMs({ attempt: made, random: dice }) ?? Number.NaN;
        const asked = nextAttemptDelayMs({ attempt: made, random: dice, retryAfterMs });
        expect(asked).toBe(Math.max(plain, Math.min(retryAfterMs, MAX_RETRY_AFTER_MS)));
      }),
    );
  });

  it('ends after the last attempt, Retry-After or not', () => {
    const beyond = fc.integer({ min: ATTEMPT_DELAYS_MS.length, max: 1_000 });
    fc.assert(
      fc.property(beyond, random, (made, dice) => {
        expect(nextAttemptDelayMs({ attempt: made, random: dice, retryAfterMs: 1_000 })).toBeUndefined();
      }),
    );
  });
});

describe('Retry-After', () => {
  const nowMs = Date.UTC(2026, 0, 1, 12, 0, 0);

  it('is read as seconds', () => {
    fc.assert(
      fc.property(fc.nat(), (s) => {
        expect(parseRetryAfter(` ${s} `, nowMs)).toBe(s * 1_000);
      }),
    );
    expect(parseRetryAfter('9'.repeat(500), nowMs)).toBeGreaterThan(MAX_RETRY_AFTER_MS);
  });

  it('is read as an HTTP-date, which may lie in the past', () => {
    const dates = fc.date({ min: new Date(nowMs), max: new Date(nowMs + 1e11), noInvalidDate: true });
    fc.assert(
      fc.property(dates, (at) => {
        expect(parseRetryAfter(at.toUTCString(), nowMs)).toBe(Math.floor(at.getTime() / 1_000) * 1_000 - nowMs);
      }),
    );
    expect(parseRetryAfter('Wed, 21 Oct 2015 07:28:00 GMT', nowMs)).toBe(0);
  });

  it.each([
    undefined,
    '',
    '-1',
    '1.5',
    'soon',
    '5 s',
    '2026-01-01',
    '2026-01-01T13:00:00Z',
    'Thu, 99 Jan 2026 13:00:00 GMT',
  ])('of any other form is ignored: %j', (value) => {
    expect(parseRetryAfter(value, nowMs)).toBeUndefined();
  });
});
