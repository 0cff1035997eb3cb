import { expect } from 'vitest';
import type { ChaosRun } from './chaos-run.ts';
import { isWanted } from './filters.ts';
import { compareWithLog } from './ledger.ts';
import { compareRecords, type RecordFaults, recordOf } from './record.ts';

/** The log is what was acknowledged, and everybody has exactly what was wanted of it, once, in order. */
export function expectWhole({ ledger, log, outcomes, figures }: ChaosRun): void {
  const differences = compareWithLog(ledger, log);
  expect({ count: differences.length, first: differences.slice(0, 10) }, figures).toEqual({ count: 0, first: [] });
  const expected = {
    all: recordOf(log),
    stock: recordOf(log.filter(({ name }) => isWanted('stock', name))),
    rare: recordOf(log.filter(({ name }) => isWanted('rare', name))),
  };
  expect(expected.rare.positions.length, 'rare events').toBeGreaterThan(0);
  const broken = outcomes.flatMap(({ name, wanted, record, lastFault }) => {
    const faults = compareRecords(record, expected[wanted]);
    return faults === undefined ? [] : [{ name, lastFault, ...shorten(faults) }];
  });
  expect({ count: broken.length, first: broken.slice(0, 5) }, figures).toEqual({ count: 0, first: [] });
}

/** Each careless way has lost or repeated: the strikes were such that it matters how one reads. */
export function expectCarelessToFail({ log, careless, controls, figures }: ChaosRun): void {
  const expected = recordOf(log);
  const faultsOf = (resume: string) =>
    careless.filter((each) => each.resume === resume).map(({ record }) => compareRecords(record, expected));
  expect(
    faultsOf('none').some((faults) => (faults?.lost.length ?? 0) > 0),
    `without cursor: ${figures}`,
  ).toBe(true);
  expect(
    faultsOf('first').some((faults) => (faults?.repeated.length ?? 0) > 0),
    `its first cursor: ${figures}`,
  ).toBe(true);
  for (const [name, ids] of Object.entries(controls)) {
    expect(log.filter(({ id }) => !ids.has(id)).length, `${name}: ${figures}`).toBeGreaterThan(0);
  }
}

function shorten({ lost, repeated, stray, late, hasOtherIds }: RecordFaults) {
  const few = (positions: readonly number[]) => `${positions.length}: ${positions.slice(0, 5).join(' ')}`;
  return { lost: few(lost), repeated: few(repeated), stray: few(stray), late: few(late), hasOtherIds };
}
