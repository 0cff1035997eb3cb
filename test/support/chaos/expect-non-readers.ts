import { expect } from 'vitest';
import type { NonReadersRun } from './non-readers.ts';

/** Queued for a connection at most, beside what the transport under it may hold. */
export const BUDGET_BYTES = 1024 * 1024 + 64 * 1024;

/** Of `ws`. */
const CLOSE_WITHIN_MS = 30_000;

/** The server lives and has kept its budget, the others have lost nothing, those who did not read go on behind their last cursor. */
export function expectUnharmed(
  run: NonReadersRun,
  { growthBytes, heldBytes }: Pick<NonReadersRun, 'growthBytes' | 'heldBytes'>,
): void {
  const { from, to, stalled, healthy } = run;
  expect(run.isAlive).toBe(true);
  expect(run.growthBytes, describeNonReaders(run)).toBeLessThan(growthBytes);
  expect(run.heldBytes, describeNonReaders(run)).toBeLessThan(heldBytes);
  for (const { positions, breaks } of healthy) {
    expect(breaks).toBe(0);
    expect(isRange(positions, 1, to)).toBe(true);
  }
  // a close that is not answered for so long ends with the socket, and what was not sent by then is gone: the code, too
  const codes = run.drainedAfterMs < CLOSE_WITHIN_MS ? [4508] : [4508, 1006];
  for (const { transport, closeCode, positions, resumed } of stalled) {
    expect(transport === 'SSE' ? [undefined] : codes).toContain(closeCode);
    const last = positions.at(-1) ?? from;
    expect(last, 'cut off before the end').toBeLessThan(to);
    expect(isRange(positions, from + 1, last)).toBe(true);
    if (resumed !== undefined) expect(isRange(resumed, last + 1, to)).toBe(true);
  }
  const transports = stalled.flatMap(({ transport, resumed }) => (resumed === undefined ? [] : [transport]));
  expect(new Set(transports)).toEqual(new Set(['WebSocket', 'SSE']));
}

/** In one line. */
export function describeNonReaders({ stalled, to, growthBytes, heldBytes }: NonReadersRun): string {
  const taken = stalled.map(({ positions }) => positions.length);
  const mib = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
  return [
    `${stalled.length} non-readers, ${to} events`,
    ...(taken.length > 0 ? [`cut off after ${Math.min(...taken)} to ${Math.max(...taken)}`] : []),
    `the server's memory grew by ${mib(growthBytes)} at most, of which the budgets are ${mib(stalled.length * BUDGET_BYTES)}`,
    `after collections by ${mib(heldBytes)}`,
  ].join('; ');
}

function isRange(positions: readonly number[], first: number, last: number): boolean {
  return positions.length === last - first + 1 && positions.every((position, at) => position === first + at);
}
