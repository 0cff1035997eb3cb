import { expect } from 'vitest';
import { compare, lostOf } from './compare.ts';
import type { KillRun } from './kill-run.ts';

/** Nothing lost, doubled, out of order or different; the replay tool and all processes ended well. */
export function expectKept({ evidence, exitCodes, report }: KillRun): void {
  const differences = compare(evidence);
  expect({ count: differences.length, first: differences.slice(0, 20) }, report).toEqual({ count: 0, first: [] });
  expect(exitCodes, report).toEqual(Object.fromEntries(Object.keys(exitCodes).map((name) => [name, 0])));
}

/** Each careless client has lost events: the kills were such that it matters how one listens. */
export function expectControlsToLose({ evidence, controls, report }: KillRun): void {
  for (const [name, ids] of Object.entries(controls)) {
    expect(lostOf(evidence.log, ids), `${name}: ${report}`).not.toEqual([]);
  }
}

/** Each of these was killed so often, or more. */
export function expectKilled({ kills, report }: KillRun, wanted: Readonly<Record<string, number>>): void {
  for (const [victim, times] of Object.entries(wanted)) {
    expect(kills[victim], `${victim}: ${report}`).toBeGreaterThanOrEqual(times);
  }
}
