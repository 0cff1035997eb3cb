import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createCatalog, payloadFault, syncEventTypes, upcast } from '../../src/outbox/catalog.ts';
import { defineEvent, type EventDefinition } from '../../src/outbox/event.ts';
import { decimal, enumType, id, snapshot } from '../../src/outbox/payload.ts';
import { BACKENDS, type LogDatabase, openLog } from '../support/log-database.ts';
import { logCatalog, noteEdited, notePinned, noteWritten, written } from '../support/log-domain.ts';

const base = { kind: 'fact', version: 1, subject: 'Note', scope: 'notes:read', payload: {}, related: [] } as const;

describe('declaring an event', () => {
  it('gives its names and what its fields are in the graph', () => {
    const event = defineEvent('order.line.added', {
      ...base,
      payload: {
        orderId: id('Order'),
        price: decimal().nullable(),
        size: enumType('Size', ['S', 'M']),
        count: z.int32(),
        weight: z.number(),
        at: z.iso.datetime(),
        extra: z.json(),
        tags: z.array(z.string()),
        line: snapshot('LineSnapshot', { isGift: z.boolean() }),
      },
      related: ['orderId'],
    });
    expect(event).toMatchObject({
      typeName: 'OrderLineAdded',
      enumName: 'ORDER_LINE_ADDED',
      fieldName: 'orderLineAdded',
    });
    const kinds = [...event.fields].map(([name, { type }]) => [name, type.kind === 'scalar' ? type.scalar : type.kind]);
    expect(Object.fromEntries(kinds)).toEqual({
      orderId: 'ID',
      price: 'Decimal',
      size: 'enum',
      count: 'Int',
      weight: 'Float',
      at: 'DateTime',
      extra: 'JSON',
      tags: 'list',
      line: 'snapshot',
    });
    expect(event.fields.get('price')?.nullable).toBe(true);
  });

  it.each(['Note.written', 'note', 'note.', 'note..written', 'note_written', 'note.Written', '1note.written', ''])(
    'refuses the name "%s"',
    (name) => {
      expect(() => defineEvent(name, base)).toThrow(`event "${name}": expected a name such as "order.placed"`);
    },
  );

  it.each<[string, z.ZodRawShape, string]>([
    ['a field of Event', { position: z.string() }, 'payload.position: each event has a field "position" of its own'],
    ['a name that GraphQL does not allow', { 'a-b': z.string() }, 'payload.a-b: not a name'],
    ['an optional field', { a: z.string().optional() }, 'payload.a: a payload field is never absent; use nullable()'],
    ['a nameless object', { a: z.object({ b: z.string() }) }, 'payload.a: a nested object needs a name'],
    ['a nameless object in a list', { a: z.array(z.object({})) }, 'payload.a[]: a nested object needs a name'],
    ['a nameless enum', { a: z.enum(['X']) }, 'payload.a: an enum needs a name'],
    ['a date', { a: z.date() }, 'payload.a: a date has no place in the graph'],
    ['a bigint', { a: z.bigint() }, 'payload.a: a bigint has no place in the graph'],
    ['a record', { a: z.record(z.string(), z.string()) }, 'payload.a: a record has no place in the graph'],
    ['a union', { a: z.union([z.string(), z.number()]) }, 'payload.a: a union has no place in the graph'],
    ['a 64-bit number', { a: z.array(z.int()).nullable() }, 'payload.a[]: a number has no place in the graph'],
  ])('refuses %s, with its path', (_what, payload, message) => {
    expect(() => defineEvent('note.bad', { ...base, payload })).toThrow(`event "note.bad", ${message}`);
  });

  const NoteSnapshot = snapshot('NoteSnapshot', { noteId: id('Note'), size: z.int32() });
  it.each([
    ['note.nobody', 'there is no "nobody" in the payload'],
    ['nobody', 'there is no "nobody"'],
    ['note', 'expected an id'],
    ['note.size', 'expected an id'],
    ['note.noteId.more', 'there is no "more"'],
    ['', 'there is no ""'],
  ])('refuses the related path "%s"', (path, message) => {
    const declare = () => defineEvent('note.bad', { ...base, payload: { note: NoteSnapshot }, related: [path] });
    expect(declare).toThrow(`event "note.bad", related "${path}": ${message}`);
  });

  it.each([
    [0, {}, 'version must be 1 or more, found 0'],
    [1.5, {}, 'version must be 1 or more'],
    [2, {}, 'version 2 needs upcast: { 1: (v1) => v2 }'],
    [3, { 1: (payload: Record<string, unknown>) => payload }, 'version 3 needs upcast: { 2: (v2) => v3 }'],
  ])('refuses version %s without its upcasts', (version, upcasts, message) => {
    expect(() => defineEvent('note.bad', { ...base, version, upcast: upcasts })).toThrow(message);
  });

  it('refuses two of one name', () => {
    const twin = defineEvent('note.written', base);
    expect(() => createCatalog([noteWritten, twin] as EventDefinition[])).toThrow('"note.written" is declared twice');
  });
});

describe('upcasting', () => {
  it('goes step by step from the stored version to the declared one', () => {
    expect(upcast(notePinned, { pinned: true }, 1)).toEqual({ pins: 1, reason: 'none given' });
    expect(upcast(notePinned, { pins: 2 }, 2)).toEqual({ pins: 2, reason: 'none given' });
    expect(upcast(notePinned, { pins: 3, reason: 'x' }, 3)).toEqual({ pins: 3, reason: 'x' });
  });

  it('refuses a version that is newer than the program', () => {
    expect(() => upcast(notePinned, {}, 4)).toThrow('stored in version 4, this program knows 3');
  });

  it('says why a payload can not be shown', () => {
    const fault = (name: string, payload: Record<string, unknown>, version = 1) =>
      payloadFault(logCatalog, { name, payload, payload_version: version });
    expect(fault('note.written', written('fine'))).toBeUndefined();
    expect(fault('note.written', { ...written(''), more: 1 })).toMatch(/more/);
    expect(fault('note.burnt', {})).toBe('this program declares no event "note.burnt"');
    expect(fault('note.pinned', {}, 9)).toMatch(/version 9/);
    const broken = defineEvent('note.broken', { ...base, version: 2, upcast: { 1: () => JSON.parse('{') } });
    expect(payloadFault(createCatalog([broken]), { name: 'note.broken', payload: {}, payload_version: 1 })).toMatch(
      /JSON/,
    );
  });
});

describe.each(BACKENDS)('syncing event types on %s', (kind) => {
  let log: LogDatabase;
  beforeAll(async () => {
    log = await openLog(kind);
  });
  afterAll(() => log.close());
  const types = () => log.database.db.selectFrom('fanfare.event_type').selectAll().orderBy('name').execute();

  it('writes what the code declares, and nothing when it is the same', async () => {
    const before = await types();
    expect(before.map(({ name, kind: eventKind, version }) => [name, eventKind, version])).toEqual([
      ['note.edited', 'update', 1],
      ['note.pinned', 'fact', 3],
      ['note.written', 'fact', 1],
    ]);
    expect(before[2]).toMatchObject({
      related: ['$."author"."userId"', '$."mentions"."userId"'],
      schema: { type: 'object' },
    });
    await log.advanceClock(1_000);
    await syncEventTypes(log.database, logCatalog);
    expect(await types()).toEqual(before);
  });

  it('forgets a type that no event uses, and refuses to lose one that is used', async () => {
    const fewer = createCatalog([noteWritten, notePinned] as unknown as EventDefinition[]);
    await syncEventTypes(log.database, fewer);
    expect(await types()).toHaveLength(3); // what is new may be another program's, in the middle of a deploy
    await log.advanceClock(2 * 3_600_000);
    await syncEventTypes(log.database, fewer);
    expect((await types()).map(({ name }) => name)).toEqual(['note.pinned', 'note.written']);
    await log.emit('acc_default', 'note.written', 'n', written(''));
    const without = syncEventTypes(
      log.database,
      createCatalog([noteEdited, notePinned] as unknown as EventDefinition[]),
    );
    await expect(without).rejects.toThrow(
      'the log holds events named "note.written", which this program no longer declares',
    );
    await syncEventTypes(log.database, logCatalog);
    expect(await types()).toHaveLength(3);
  });

  it('refuses to run an older program', async () => {
    const older = defineEvent('note.pinned', { ...base, version: 2, upcast: { 1: (payload) => payload } });
    const syncing = syncEventTypes(
      log.database,
      createCatalog([noteWritten, noteEdited, older] as unknown as EventDefinition[]),
    );
    await expect(syncing).rejects.toThrow('"note.pinned" is in version 3 in this database, this program declares 2');
  });
});
