import { describe, expect, it } from 'vitest';
import { createWalkPace } from '../../src/webhooks/walk-pace.ts';

describe('the pace of walks over all webhooks', () => {
  it('rests sixteen times what one took, and not for claims of some webhooks', () => {
    const pace = createWalkPace();
    expect(pace.restMs(1_000)).toBe(0);
    pace.note({ atMs: 1_000, endedAtMs: 1_012, claimed: 0, isWalk: true });
    expect(pace.restMs(1_012)).toBe(192);
    pace.note({ atMs: 1_020, endedAtMs: 1_050, claimed: 100, isWalk: false });
    expect(pace.restMs(1_100)).toBe(104);
    expect(pace.restMs(1_205)).toBe(0);
  });

  it('counts neither what the claimed rows took, nor what held up one of many', () => {
    const pace = createWalkPace();
    for (let at = 0; at < 100; at++) pace.note({ atMs: 0, endedAtMs: 10, claimed: 100, isWalk: false });
    pace.note({ atMs: 1_000, endedAtMs: 1_011, claimed: 100, isWalk: true });
    expect(pace.restMs(1_011)).toBeCloseTo(16, 0);
    pace.note({ atMs: 2_000, endedAtMs: 2_500, claimed: 0, isWalk: true });
    expect(pace.restMs(2_500)).toBeCloseTo(16, 0);
    for (let at = 0; at < 8; at++) pace.note({ atMs: 3_000, endedAtMs: 3_020, claimed: 0, isWalk: true });
    expect(pace.restMs(3_020)).toBe(320);
  });
});
