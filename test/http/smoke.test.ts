import { createClient } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BACKENDS, startApp, type TestApp } from '../support/app.ts';
import { domain, toyMigrations } from '../support/toy-domain.ts';

describe.each(BACKENDS)('a server on %s', (backend) => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ backend, domain, domainMigrations: toyMigrations });
  });
  afterAll(() => app.stop());

  it('answers a query', async () => {
    expect(await app.post('{ viewer { account { id } } events { nodes { id } } head }')).toMatchObject({
      data: { viewer: { account: { id: 'acc_default' } } },
    });
  });

  it('shows a change by pull and over WebSocket', async () => {
    const client = createClient({ url: app.wsUrl, connectionParams: { Authorization: `Bearer ${app.key}` } });
    const head = await app.post('{ head }');
    const events = client.iterate({
      query:
        'subscription ($after: String) { noteWritten(after: $after) { id position cursor name note { noteId text } currentNote { id version } } }',
      variables: { after: head.data.head },
    });
    const first = events.next();
    const made = await app.post(
      'mutation { noteWrite(text: "hello") { __typename ... on NoteWriteSuccess { cursor note { id version text } } } }',
    );
    expect(made).toMatchObject({
      data: { noteWrite: { __typename: 'NoteWriteSuccess', note: { version: 1, text: 'hello' } } },
    });
    const watched = await first;
    const pulled = await app.post(
      'query ($after: String) { events(after: $after) { nodes { id position cursor name ... on NoteWritten { note { noteId text } currentNote { id version } } } } }',
      { after: head.data.head },
    );
    expect(watched.value.data.noteWritten).toEqual(pulled.data.events.nodes[0]);
    await client.dispose();
  });
});
