import fc from 'fast-check';
import { type Kysely, sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineTables } from '../../src/database/tables.ts';
import {
  type EventFilter,
  type FilteredEvent,
  filterKey,
  filterPredicate,
  filterSql,
} from '../../src/outbox/filter.ts';
import { BACKENDS, type LogDatabase, openLog } from '../support/log-database.ts';

// what text in Postgres can hold: neither U+0000 nor half of a pair
const strange = fc
  .string({ unit: 'grapheme', maxLength: 6 })
  .filter((text) => !text.includes('\u0000') && text.isWellFormed());
const word = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      'a',
      'b',
      'c',
      'A',
      'é',
      'e\u0301',
      'straße',
      '😀',
      '',
      ' ',
      '{a,b}',
      '"',
      '\\',
      'NULL',
      'null',
    ),
  },
  { weight: 1, arbitrary: strange },
);
const words = fc.array(word, { maxLength: 4 });
const event = fc.record({ name: word, subjectId: word, related: words, changed: words });
const filter: fc.Arbitrary<EventFilter> = fc.record(
  { types: words, subjects: words, related: words, changed: words, triggers: words },
  { requiredKeys: [] },
);
const cases = fc.record({
  events: fc.array(event, { minLength: 1, maxLength: 12 }),
  filters: fc.array(filter, { maxLength: 3 }),
});

describe.each(BACKENDS)('a filter on %s', (kind) => {
  let log: LogDatabase;
  beforeAll(async () => {
    log = await openLog(kind);
  });
  afterAll(() => log.close());

  it('chooses the same events in SQL as in memory', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ({ events, filters }) => {
        const holds = filterPredicate(filters);
        const inMemory = events.flatMap((each, at) => (holds(each) ? [at] : []));
        expect(await chooseBySql(events, filters)).toEqual(inMemory);
      }),
      { numRuns: kind === 'postgres' ? 250 : 120 },
    );
  });

  async function chooseBySql(events: readonly FilteredEvent[], filters: readonly EventFilter[]): Promise<number[]> {
    const rows = events.map(
      (each, at) =>
        sql`(${at}::int, ${each.name}::text, ${each.subjectId}::text, ${each.related}::text[], ${each.changed}::text[])`,
    );
    // filterSql speaks of rows of fanfare.event as e; these are such rows
    const db = log.database.db as unknown as Kysely<{ e: EngineTables['fanfare.event'] }>;
    const chosen = await db
      .with(
        'e',
        () => sql`(select * from (values ${sql.join(rows)}) v (seq, name, subject_id, related, changed))` as never,
      )
      .selectFrom('e')
      .select('e.seq')
      .where((eb) => filterSql(eb as never, filters))
      .orderBy('e.seq')
      .execute();
    return chosen.map(({ seq }) => seq);
  }
});

describe('a filter', () => {
  const note = { name: 'note.edited', subjectId: 'n1', related: ['u1', 'u2'], changed: ['text'] };

  it.each<[string, EventFilter[], boolean]>([
    ['nothing asked', [], true],
    ['an absent part', [{}], true],
    ['an empty part', [{ types: [] }], false],
    ['one of several values', [{ related: ['u2', 'u9'] }], true],
    ['two parts that hold', [{ types: ['note.edited'], changed: ['text'] }], true],
    ['two parts of which one does not hold', [{ types: ['note.edited'], changed: ['title'] }], false],
    ['a trigger that changed', [{ triggers: ['title', 'text'] }], true],
    ['triggers that did not change', [{ triggers: ['title'] }], false],
    ['two filters of which one does not hold', [{ subjects: ['n1'] }, { subjects: ['n2'] }], false],
  ])('with %s', (_what, filters, expected) => {
    expect(filterPredicate(filters)(note)).toBe(expected);
  });

  it('with triggers lets what is no update pass', () => {
    expect(filterPredicate([{ triggers: ['title'] }])({ ...note, changed: [] })).toBe(true);
    expect(filterPredicate([{ changed: ['title'] }])({ ...note, changed: [] })).toBe(false);
  });

  it('has one key for equal filters and another for others', () => {
    expect(filterKey([{ types: ['b', 'a', 'b'] }])).toBe(filterKey([{ types: ['a', 'b'] }]));
    expect(filterKey([{ types: [] }])).not.toBe(filterKey([{}]));
    expect(filterKey([{ types: ['a'] }])).not.toBe(filterKey([{ subjects: ['a'] }]));
    expect(filterKey([{ types: ['a", "b'] }])).not.toBe(filterKey([{ types: ['a', 'b'] }]));
  });
});
