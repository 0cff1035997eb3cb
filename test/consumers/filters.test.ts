import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type EventFilter, filterPredicate } from '../../src/outbox/filter.ts';
import type { EventRecord } from '../../src/outbox/read.ts';
import { noteEdited, noteWritten } from '../support/toy-domain.ts';
import { type ConsumerEngine, openConsumerEngine, positionsIn } from './consumer-engine.ts';

const SUBJECTS = ['a', 'b', 'c'];
const RELATED = ['x', 'y', 'z'];
const CHANGED = ['text', 'mood'];
const TYPES = { NOTE_WRITTEN: noteWritten.name, NOTE_EDITED: noteEdited.name };

let engine: ConsumerEngine;
let events: readonly EventRecord[];

beforeAll(async () => {
  engine = await openConsumerEngine('postgres');
  const author = { accountId: 'acc_default', actor: null, requestId: null, causedBy: null };
  await engine.services.transact(author, async (tx) => {
    const all = fc.record({
      subjectId: fc.constantFrom(...SUBJECTS),
      mentions: fc.subarray(RELATED),
      changed: fc.subarray(CHANGED, { minLength: 1 }),
      isWritten: fc.boolean(),
    });
    for (const { subjectId, mentions, changed, isWritten } of fc.sample(all, { numRuns: 60, seed: 3 })) {
      const note = { noteId: subjectId, text: 'text' };
      if (isWritten) await tx.emit(noteWritten, { subjectId, payload: { note } });
      else {
        const rest = { mood: null, attachments: [], editedAt: '2026-01-01T00:00:00Z', score: 1, extra: null };
        await tx.emit(noteEdited, { subjectId, changed, payload: { note, mentions, ...rest } });
      }
    }
  });
  events = await engine.stampedEvents();
});
afterAll(() => engine.close());

const part = (values: readonly string[], minLength: number) => fc.subarray([...values, 'none'], { minLength });
/** As a client may write it; types by their names in the graph. */
const asked = fc.record(
  {
    types: fc.subarray(['NOTE_WRITTEN', 'NOTE_EDITED'] as const, { minLength: 1 }),
    subjects: part(SUBJECTS, 1),
    related: part(RELATED, 1),
    changed: part(CHANGED, 1),
    triggers: part(CHANGED, 1),
  },
  { requiredKeys: [] },
);
/** As a key may be narrowed: a part without values holds for nothing. */
const narrowing: fc.Arbitrary<EventFilter[]> = fc.array(
  fc.record(
    { types: part(Object.values(TYPES), 0), subjects: part(SUBJECTS, 0), related: part(RELATED, 0) },
    { requiredKeys: [] },
  ),
  { maxLength: 2 },
);

let runs = 0;

it('a consumer gives the events that its filter and its narrowing choose in memory, all of them', async () => {
  const holds = async (
    filter: typeof asked extends fc.Arbitrary<infer T> ? T : never,
    narrowed: EventFilter[],
    first: number,
  ) => {
    const name = `filter-${++runs}`;
    await engine.create({ name, filter, startAfter: engine.cursorOf(0) }, { narrowing: narrowed });
    const { types, ...rest } = filter;
    const wanted = { ...rest, ...(types ? { types: types.map((type) => TYPES[type]) } : {}) };
    const expected = events.filter(filterPredicate([wanted, ...narrowed])).map(({ position }) => String(position));
    const given: string[] = [];
    for (
      let batch = await engine.poll({ name, first });
      batch.cursor !== null;
      batch = await engine.poll({ name, first })
    ) {
      given.push(...positionsIn(batch));
      await engine.ack(name, batch.cursor);
    }
    expect(given).toEqual(expected);
    expect(await engine.consumer(name)).toMatchObject({ behind: 0, leases: [] });
  };
  await fc.assert(fc.asyncProperty(asked, narrowing, fc.integer({ min: 5, max: 40 }), holds), { numRuns: 60 });
});
