import { expect } from 'vitest';
import { countBySubject, findOvertakings } from './order-check.ts';
import { type OrderedWebhook, type OrderRun, POISONED } from './order-run.ts';

export interface Size {
  readonly subjects: number;
  readonly perSubject: number;
  /** Of the webhooks beside the one that is in order and gets all. */
  readonly fewSubjects: number;
}

/** What the runs of both lengths let receivers get. */
export function orderedWebhooks({ subjects, perSubject, fewSubjects }: Size): Readonly<Record<string, OrderedWebhook>> {
  const few = fewSubjects * perSubject;
  const before = Math.floor(perSubject / 2);
  const ordering = 'PER_SUBJECT';
  return {
    ordered: { accepts: subjects * perSubject, input: { ordering } },
    unordered: { subjects: fewSubjects, accepts: few },
    skipping: {
      subjects: fewSubjects,
      isPoisoned: true,
      accepts: few - 1,
      input: { ordering, onExhausted: 'SKIP' },
    },
    blocking: {
      subjects: fewSubjects,
      isPoisoned: true,
      accepts: few - (perSubject - before),
      input: { ordering, onExhausted: 'BLOCK' },
    },
  };
}

/** Within each subject all, in the order of the log. */
export function expectOrder({ ordered = [] }: OrderRun, { subjects, perSubject }: Size): void {
  expect(findOvertakings(ordered)).toEqual([]);
  expect([...countBySubject(ordered).values()]).toEqual(Array(subjects).fill(perSubject));
}

/** The control: the same load without the order. */
export function expectOvertakings({ unordered = [] }: OrderRun, { perSubject, fewSubjects }: Size): void {
  expect([...countBySubject(unordered).values()]).toEqual(Array(fewSubjects).fill(perSubject));
  expect(findOvertakings(unordered).length).toBeGreaterThan(0);
}

/** The subject of an event that is never accepted goes on without it, or stands still; the others have all, in order. */
export function expectOnlyItsOwn(run: OrderRun, { perSubject, fewSubjects }: Size): void {
  const own = { skipping: perSubject - 1, blocking: Math.floor(perSubject / 2) };
  for (const [name, count] of Object.entries(own)) {
    const accepted = run[name] ?? [];
    expect(findOvertakings(accepted)).toEqual([]);
    const counts = new Map(countBySubject(accepted));
    expect(counts.get(POISONED)).toBe(count);
    counts.delete(POISONED);
    expect([...counts.values()]).toEqual(Array(fewSubjects - 1).fill(perSubject));
  }
}
