import fc from 'fast-check';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Database } from '../../src/database/connect.ts';
import { type EventFilter, type FilteredEvent, filterPredicate } from '../../src/outbox/filter.ts';
import { newId } from '../../src/runtime/id.ts';
import { createSealer } from '../../src/webhooks/seal.ts';
import { openWebhookEngine, sealer, type WebhookEngine, workOff } from './webhook-engine.ts';

const SCOPES: Readonly<Record<string, string>> = { 'note.written': 'notes:read', 'note.edited': 'notes:read' };

const value = fc.constantFrom('a', 'b', "it's", '{"c"}', '', 'é');
const values = fc.array(value, { maxLength: 3 });
const types = fc.array(fc.constantFrom(...Object.keys(SCOPES), 'note.unknown'), { maxLength: 3 });
const filter: fc.Arbitrary<EventFilter> = fc.record(
  { types, subjects: values, related: values, changed: values, triggers: values },
  { requiredKeys: [] },
);
const event: fc.Arbitrary<FilteredEvent> = fc.record({
  name: fc.constantFrom(...Object.keys(SCOPES), 'note.unknown'),
  subjectId: value,
  related: values,
  changed: values,
});
interface Grants {
  readonly own: EventFilter;
  readonly narrowing: readonly EventFilter[];
  readonly scopes: readonly string[];
}

const grants: fc.Arbitrary<Grants> = fc.record({
  own: filter,
  narrowing: fc.array(filter, { maxLength: 2 }),
  scopes: fc.constantFrom<readonly string[]>([], ['notes:read'], ['events:read', 'other']),
});

describe.each(['postgres', 'pglite'] as const)('matching on %s', (kind) => {
  let engine: WebhookEngine;
  let database: Database;

  beforeAll(async () => {
    engine = await openWebhookEngine(kind);
    ({ database } = engine.services);
  });
  afterAll(() => engine?.close());

  /** A webhook with these grants, whatever its document says. */
  async function insertWebhook({ own, narrowing, scopes }: Grants): Promise<string> {
    const id = newId('wh');
    await sql`
      insert into fanfare.webhook (id, account_id, url, description, metadata, document, variables, scopes, narrowing,
                                   types, subjects, related, changed, triggers, live_after, backfilled_to)
      values (${id}, 'acc_default', '', '', '{}', '', '{}', ${scopes}::text[], ${JSON.stringify(narrowing)}::jsonb,
              ${own.types ?? null}::text[], ${own.subjects ?? null}::text[], ${own.related ?? null}::text[], ${own.changed ?? null}::text[],
              ${own.triggers ?? null}::text[], 0, 0)
    `.execute(database.db);
    return id;
  }

  async function wanted(id: string, events: readonly FilteredEvent[]): Promise<boolean[]> {
    const { rows } = await sql<{ wants: boolean }>`
      select fanfare.webhook_wants(w, e.name, e."subjectId", e.related, e.changed) as wants
      from fanfare.webhook w, jsonb_array_elements(${JSON.stringify(events)}::jsonb) with ordinality as each (event, number),
           jsonb_to_record(each.event) as e (name text, "subjectId" text, related text[], changed text[])
      where w.id = ${id} order by each.number
    `.execute(database.db);
    return rows.map(({ wants }) => wants);
  }

  it('in SQL gives what the predicate of live streams gives', async () => {
    await fc.assert(
      fc.asyncProperty(grants, fc.array(event, { minLength: 10, maxLength: 30 }), async (given, events) => {
        const visible = { types: Object.keys(SCOPES).filter((name) => given.scopes.includes(SCOPES[name] ?? '')) };
        const holds = filterPredicate([given.own, ...given.narrowing, visible]);
        expect(await wanted(await insertWebhook(given), events)).toEqual(events.map((each) => holds(each)));
      }),
      { numRuns: 80 },
    );
    await sql`delete from fanfare.webhook`.execute(database.db);
  });

  it('brings forth one delivery for each webhook that wants the event', async () => {
    const wants = await insertWebhook({ own: { types: ['note.written'] }, narrowing: [], scopes: ['notes:read'] });
    await insertWebhook({ own: { types: ['note.edited'] }, narrowing: [], scopes: ['notes:read'] });
    await insertWebhook({ own: {}, narrowing: [], scopes: ['events:read'] });
    await engine.writeNote('matched');
    await engine.stampedEvents();
    expect((await engine.deliveries()).map(({ webhookId }) => webhookId)).toEqual([wants]);
    await sql`delete from fanfare.delivery`.execute(database.db);
    await sql`delete from fanfare.webhook`.execute(database.db);
  });
});

describe('a worker that starts', () => {
  it('releases what an older program had parked, and seals anew what the previous key has sealed', async () => {
    const engine = await openWebhookEngine('pglite');
    try {
      const { db } = engine.services.database;
      const input = { url: 'http://127.0.0.1:1/', eventTypes: ['NOTE_WRITTEN'] };
      const { id, secret } = await engine.createWebhook(input);
      await sql`update fanfare.webhook set parked_reason = 'it was too new'`.execute(db);
      const next = createSealer({ key: new Uint8Array(32).fill(8), previousKey: new Uint8Array(32).fill(7) });
      await workOff(engine.createWorker({ sealer: next }));
      const { sealed } = await db.selectFrom('fanfare.webhook_secret').select('sealed').executeTakeFirstOrThrow();
      expect(createSealer({ key: new Uint8Array(32).fill(8) }).open(sealed, id)).toBe(secret);
      const reason = () => db.selectFrom('fanfare.webhook').select('parked_reason').executeTakeFirstOrThrow();
      expect(await reason()).toEqual({ parked_reason: null });

      await engine.writeNote('unsigned');
      await engine.stampedEvents();
      await workOff(engine.createWorker({ sealer }));
      expect((await reason()).parked_reason).toContain("signing secret can't be opened");
      expect(await engine.deliveries()).toMatchObject([{ status: 'PARKED', attemptCount: 0 }]);
      await workOff(engine.createWorker({ sealer: next }));
      expect(await engine.deliveries()).toMatchObject([{ status: 'PENDING', attemptCount: 1 }]);
    } finally {
      await engine.close();
    }
  });
});
