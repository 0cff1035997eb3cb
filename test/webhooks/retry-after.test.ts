import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseRetryAfter } from '../../src/webhooks/retry-after.ts';
import { MAX_RETRY_AFTER_MS } from '../../src/webhooks/schedule.ts';

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
    ['Thursday, 01-Jan-26 12:00:30 GMT', 30_000],
    ['Thu Jan  1 12:00:30 2026', 30_000],
    ['Sat Jan 10 12:00:00 2026', 9 * 86_400_000],
    ['Sunday, 06-Nov-94 08:49:37 GMT', 0],
  ])('is read in the older forms of a date: %s', (value, expected) => {
    expect(parseRetryAfter(value, nowMs)).toBe(expected);
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
    'Thu Jan 1 13:00:00 2026',
    'Thursday, 1-Jan-26 13:00:00 GMT',
  ])('of any other form is ignored: %j', (value) => {
    expect(parseRetryAfter(value, nowMs)).toBeUndefined();
  });
});
