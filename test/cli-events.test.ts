import { buildClientSchema, getIntrospectionQuery, parse, validate } from 'graphql';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { domain } from '#domain';
import { createBuilder, type Domain, defineDomain, defineEvent } from '#engine';
import { documentForEvents, FactsLeftOut, SchemaHidden, Unreachable } from '../src/cli/document.ts';
import { startApp, type TestApp } from './support/app.ts';
import { openReceiver } from './support/receiver.ts';
import { toyMigrations } from './support/toy-domain.ts';

let app: TestApp;
beforeAll(async () => {
  app = await startApp({ backend: 'postgres', domain });
});
afterAll(() => app?.stop());

it('asks for each type of event with its facts, in a document that the server takes', async () => {
  const document = await documentForEvents(app);
  const { data } = await app.post(getIntrospectionQuery());
  expect(validate(buildClientSchema(data), parse(document))).toEqual([]);
  expect(document).toMatch(/events\(filter: \$filter, after: \$after\) \{ __typename name position cursor id /);
  const types = data.__schema.types.find(({ name }: { name: string }) => name === 'Event').possibleTypes;
  for (const { name } of types) expect(document).toContain(`... on ${name} {`);
  expect(document).not.toContain('currentOrder');
});

it('asks for fields of one name and different forms under two names', async () => {
  const other = await startApp({ backend: 'postgres', domain: twoForms(), domainMigrations: toyMigrations });
  try {
    const document = await documentForEvents(other);
    expect(document).toContain('... on NoteRated { mark }');
    expect(document).toContain('... on NoteWeighed { markOfNoteWeighed: mark }');
    const { data } = await other.post(getIntrospectionQuery());
    expect(validate(buildClientSchema(data), parse(document))).toEqual([]);
  } finally {
    await other.stop();
  }
});

it('does without facts where all of them are more than one document may hold', async () => {
  const other = await startApp({ backend: 'postgres', domain: manyEvents(), domainMigrations: toyMigrations });
  try {
    await expect(documentForEvents(other)).rejects.toThrow(FactsLeftOut);
  } finally {
    await other.stop();
  }
});

it('ends at once when it is stopped while the server is silent', async () => {
  const silent = await openReceiver();
  silent.always('*', { kind: 'hang' });
  const stopping = new AbortController();
  const asked = documentForEvents({ url: `${silent.url}/graphql`, key: app.key }, stopping.signal);
  await silent.next();
  stopping.abort();
  await expect(asked).rejects.toThrow(Unreachable);
  await silent.close();
});

it('takes a server that has lost its database, or a proxy without a server, for one that comes back', async () => {
  const proxy = await openReceiver();
  const server = { url: `${proxy.url}/graphql`, key: app.key };
  proxy.script('/graphql', { status: 502, body: '<html>' });
  await expect(documentForEvents(server)).rejects.toThrow(Unreachable);
  const body = JSON.stringify({ errors: [{ message: 'the database is away', extensions: { code: 'UNAVAILABLE' } }] });
  proxy.script('/graphql', { status: 200, body });
  await expect(documentForEvents(server)).rejects.toThrow(/the database is away/);
  await proxy.close();
});

it('tells a server that is not there from a key that may not read the schema', async () => {
  await expect(documentForEvents({ url: 'http://127.0.0.1:1/graphql', key: app.key })).rejects.toThrow(Unreachable);
  const { data } = await app.post(
    'mutation { apiKeyCreate(scopes: ["events:read"]) { ... on ApiKeyCreateSuccess { secret } } }',
  );
  await expect(documentForEvents({ url: app.url, key: data.apiKeyCreate.secret })).rejects.toThrow(SchemaHidden);
});

/** More types of events than a document has room for. */
function manyEvents(): Domain {
  const names = Array.from({ length: 50 }, (_, at) => `note.happened${at}`);
  const payload = Object.fromEntries(Array.from({ length: 40 }, (_, at) => [`fact${at}`, z.string()]));
  return domainOf(
    names.map((name) =>
      defineEvent(name, { kind: 'fact', version: 1, subject: 'Note', scope: 'notes:read', payload, related: [] }),
    ),
  );
}

/** Two events whose field `mark` is a number here and a text there. */
function twoForms(): Domain {
  const event = (name: string, mark: z.ZodInt32 | z.ZodString) =>
    defineEvent(name, {
      kind: 'fact',
      version: 1,
      subject: 'Note',
      scope: 'notes:read',
      payload: { mark },
      related: [],
    });
  return domainOf([event('note.rated', z.int32()), event('note.weighed', z.string())]);
}

function domainOf(events: Parameters<ReturnType<typeof createBuilder<Tables>>['events']>[0]): Domain {
  const builder = createBuilder<Tables>().events(events);
  builder.entity('Note', { table: 'note', scope: 'notes:read', description: 'A note.', fields: () => ({}) });
  return defineDomain({ builder, idPrefixes: { Note: 'note' } });
}

interface Tables {
  note: { id: string; account_id: string };
}
