import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createBuilder, type Domain, defineDomain, defineEvent, snapshot } from '#engine';
import { checkDocuments } from '../../src/webhooks/check-documents.ts';
import { provideFieldServices } from '../../src/webhooks/field-services.ts';
import { addWebhookFields } from '../../src/webhooks/graphql.ts';
import { openTestEngine, type TestEngine } from '../support/engine.ts';
import { sealer } from './webhook-engine.ts';

/** The same domain before and after somebody's change: a field is gone, one is deprecated, an event is gone. */
function makeDomain(release: 'now' | 'next'): Domain {
  const isNow = release === 'now';
  const Note = snapshot('NoteSnapshot', { noteId: z.string(), ...(isNow ? { mood: z.string() } : {}) });
  const event = (name: string) =>
    defineEvent(name, {
      kind: 'fact',
      version: 1,
      subject: 'Note',
      scope: 'notes:read',
      payload: { note: Note },
      related: [],
    });
  const written = event('note.written');
  const builder = createBuilder<Record<never, never>>().events(isNow ? [written, event('note.lost')] : [written]);
  builder.objectFields(builder.event(written), (t) => ({
    stars: t.int({ resolve: () => 1, ...(isNow ? {} : { deprecationReason: 'Use likes.' }) }),
  }));
  const domain = defineDomain({ builder, idPrefixes: {} });
  domain.extend(addWebhookFields);
  return domain;
}

const guard = { checkNew: async (url: string) => ({ ok: true, url: new URL(url), host: 'host', addresses: [] }) };

describe('a check of the registered documents', () => {
  let engine: TestEngine;
  const ids = new Map<string, string>();

  beforeAll(async () => {
    engine = await openTestEngine({ kind: 'postgres', domain: makeDomain('now') });
    provideFieldServices(engine.services, { guard: guard as never, sealer, schema: engine.schema });
    await register('kept', { query: 'subscription { noteWritten { id note { noteId } } }' });
    await register('broken', { query: 'subscription {\n  noteWritten {\n    id\n    note { mood }\n  }\n}' });
    await register('aging', { query: 'subscription { noteWritten { stars } }' });
    await register('typed', { eventTypes: ['NOTE_WRITTEN'] });
    await register('lost', { eventTypes: ['NOTE_LOST', 'NOTE_WRITTEN'] });
  });
  afterAll(() => engine?.close());

  async function register(description: string, selection: object): Promise<void> {
    const input = { url: 'https://example.com/', description, ...selection };
    const { webhookCreate } = await engine.run<{ webhookCreate: { webhook: { id: string } } }>(
      'mutation ($input: WebhookCreateInput!) { webhookCreate(input: $input) { ... on WebhookCreateSuccess { webhook { id } } } }',
      { variables: { input } },
    );
    ids.set(description, webhookCreate.webhook.id);
  }

  async function check(domain: Domain) {
    const { catalog, registry } = domain;
    const asked = { engine: { ...engine.services, catalog, registry }, schema: domain.toSchema() };
    const checked = await checkDocuments(engine.services.database.db, asked);
    return new Map(checked.map((each) => [each.description, each]));
  }

  it('finds nothing against the schema that they were registered with', async () => {
    const checked = await check(makeDomain('now'));
    expect([...checked.keys()].sort()).toEqual(['aging', 'broken', 'kept', 'lost', 'typed']);
    for (const { broken, deprecated } of checked.values()) expect([...broken, ...deprecated]).toEqual([]);
  });

  it('finds those that the next schema breaks, with their places, and those that use what it deprecates', async () => {
    const checked = await check(makeDomain('next'));
    for (const name of ['kept', 'typed']) expect(checked.get(name)).toMatchObject({ broken: [], deprecated: [] });
    expect(checked.get('broken')).toMatchObject({
      id: ids.get('broken'),
      accountId: 'acc_default',
      status: 'ACTIVE',
      isParked: false,
      broken: [{ message: expect.stringContaining('Cannot query field "mood"'), line: 4, column: 12 }],
      deprecated: [],
    });
    expect(checked.get('lost')?.broken).toEqual([
      { message: 'this program declares no event "note.lost"', line: null, column: null },
    ]);
    expect(checked.get('aging')).toMatchObject({
      broken: [],
      deprecated: [{ message: expect.stringContaining('Use likes.'), line: 1, column: 30 }],
    });
  });
});
