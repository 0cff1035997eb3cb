import { expect } from 'vitest';
import { ENDLESS, HOSTILE } from './hostile-answers.ts';
import type { HostileRun } from './hostile-run.ts';
import { ACCEPTS_NOTHING, STALLS_TLS } from './hostile-scene.ts';

/** As a sender is shipped, for TCP and TLS together. */
const CONNECT_MS = 5_000;
/** More body than is kept, behind a fair head. */
const MAY_SUCCEED = ['sends a body without end', 'sends a gzip bomb'];

/** Whatever the receiver did: each attempt was made, has ended in time, and as it must. */
export function expectBounded(
  { attempts, expected }: HostileRun,
  { deadlineMs, slackMs }: { readonly deadlineMs: number; readonly slackMs: number },
): void {
  const groups = Map.groupBy(attempts, ({ does }) => does);
  expect([...groups].filter(([, each]) => each.length !== expected)).toEqual([]);
  const unconnected = [ACCEPTS_NOTHING, STALLS_TLS];
  const mayLastMs = (does: string) =>
    Math.min(deadlineMs, unconnected.includes(does) ? CONNECT_MS : deadlineMs) + slackMs;
  expect(attempts.filter(({ does, durationMs }) => durationMs > mayLastMs(does))).toEqual([]);
  const succeeded = [...groups].flatMap(([does, each]) =>
    each.some(({ errorClass }) => errorClass === null) ? [does] : [],
  );
  // on a busy machine the deadline may come before them
  expect(MAY_SUCCEED).toEqual(expect.arrayContaining(succeeded));
  for (const does of [...Object.keys({ ...ENDLESS, ...HOSTILE }), ...unconnected]) expect(groups.has(does)).toBe(true);
}
