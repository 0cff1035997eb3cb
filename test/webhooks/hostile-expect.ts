import { expect } from 'vitest';
import { ENDLESS, HOSTILE } from './hostile-answers.ts';
import type { HostileRun } from './hostile-run.ts';
import { ACCEPTS_NOTHING, STALLS_TLS } from './hostile-scene.ts';

/** Whatever the receiver did: each attempt was made, has ended in time, and as it must. */
export function expectBounded({ attempts, expected }: HostileRun, withinMs: number): void {
  const groups = Map.groupBy(attempts, ({ does }) => does);
  expect([...groups].filter(([, each]) => each.length !== expected)).toEqual([]);
  expect(attempts.filter(({ durationMs }) => durationMs > withinMs)).toEqual([]);
  const succeeded = [...groups].flatMap(([does, each]) =>
    each.some(({ errorClass }) => errorClass === null) ? [does] : [],
  );
  expect(succeeded).toEqual(['sends a body without end', 'sends a gzip bomb']);
  for (const does of [...Object.keys({ ...ENDLESS, ...HOSTILE }), ACCEPTS_NOTHING, STALLS_TLS])
    expect(groups.has(does)).toBe(true);
}
