import { createClient as createSseClient } from 'graphql-sse';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAccountUser, createUser, readMetric } from '../support/api-user.ts';
import { BACKENDS, startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { channelPrefix } from '../support/installation.ts';
import {
  type Collected,
  collect,
  openRawSocket,
  openSse,
  stockClient,
  subscribeMessage,
} from '../support/live-client.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { redisUrl } from '../support/redis.ts';
import { countChannels } from '../support/redis-server.ts';
import { toyMigrations } from '../support/toy-domain.ts';

const FIELDS = `__typename id position cursor type name payloadVersion occurredAt subjectType subjectId subjectVersion
  changed actor requestId causedBy ... on NoteWritten { note { noteId text } tag }`;

const QUERY = 'subscription ($after: String) { events(after: $after) { position } }';

describe.each(BACKENDS)('a stream on %s', (backend) => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ backend, domain: createProbeDomain().domain, domainMigrations: toyMigrations });
  });
  afterAll(() => app.stop());

  const head = async () => (await app.post('{ head }')).data.head as string;

  it('shows an event as a query does, over WebSocket and SSE alike', async () => {
    const after = await head();
    const subscription = `subscription ($after: String) { events(after: $after) { ${FIELDS} } }`;
    const client = stockClient(app.wsUrl, app.key);
    const replayed = await notesWrite(app, { count: 3, tag: 'note_1' });
    const overSocket = collect(client, subscription, { after });
    const sse = await openSse(app.url, { key: app.key, query: subscription, variables: { after } });
    await eventually(() => overSocket.results.length === 3 && sse.results().length === 3);
    await notesWrite(app, { count: 3, kind: 'copied' });
    await eventually(() => overSocket.results.length === 6 && sse.results().length === 6);
    const pulled = await app.post(`query ($after: String) { events(after: $after) { nodes { ${FIELDS} } } }`, {
      after,
    });
    const events = pulled.data.events.nodes;
    expect(events).toHaveLength(6);
    expect(events.slice(0, 3).map((event: { subjectId: string }) => event.subjectId)).toEqual(replayed.ids);
    const expected = events.map((event: { cursor: string }) => ({
      data: { events: event },
      extensions: { cursor: event.cursor },
    }));
    expect(overSocket.results).toEqual(expected);
    expect(sse.results()).toEqual(expected);
    expect(sse.events.filter(({ event }) => event === 'next').map(({ id }) => id)).toEqual(
      events.map((event: { cursor: string }) => event.cursor),
    );
    const [event] = events;
    const byId = await app.post(
      `query ($id: ID!) { event(id: $id) { ${FIELDS} } node(id: $id) { ... on Event { ${FIELDS} } } }`,
      {
        id: event.id,
      },
    );
    expect(byId.data).toEqual({ event, node: event });
    sse.end();
    await client.dispose();
  });

  it('brings what its filter lets through, and one field brings its type', async () => {
    const client = stockClient(app.wsUrl, app.key);
    const after = await head();
    const watch = (filter: object) =>
      collect(
        client,
        'subscription ($f: EventFilter, $a: String) { events(filter: $f, after: $a) { subjectId name } }',
        {
          f: filter,
          a: after,
        },
      );
    const byType = watch({ types: ['NOTE_COPIED'] });
    const byRelated = watch({ related: ['note_tag'] });
    const bySubject = watch({ subjects: ['note_one'] });
    const byBoth = watch({ types: ['NOTE_WRITTEN'], subjects: ['note_one', 'note_two'] });
    const byChange = watch({ changed: ['text'] });
    const byField = collect(client, 'subscription ($a: String) { noteCopied(after: $a) { subjectId name } }', {
      a: after,
    });
    await notesWrite(app, { count: 1, subjectId: 'note_one' });
    await notesWrite(app, { count: 1, subjectId: 'note_two', kind: 'copied', tag: 'note_tag' });
    await notesWrite(app, { count: 1, subjectId: 'note_one', kind: 'copied' });
    await notesWrite(app, { count: 1, subjectId: 'note_two' });
    const seen = (collected: { results: readonly { data?: Record<string, { subjectId: string; name: string }> }[] }) =>
      collected.results.map(({ data }) => Object.values(data ?? {}).map((each) => `${each.subjectId} ${each.name}`)[0]);
    const expected: [Collected, string[]][] = [
      [byType, ['note_two note.copied', 'note_one note.copied']],
      [byField, ['note_two note.copied', 'note_one note.copied']],
      [byRelated, ['note_two note.copied']],
      [bySubject, ['note_one note.written', 'note_one note.copied']],
      [byBoth, ['note_one note.written', 'note_two note.written']],
      [byChange, []],
    ];
    await eventually(() => expected.every(([collected, events]) => collected.results.length >= events.length));
    for (const [collected, events] of expected) expect(seen(collected)).toEqual(events);
    await client.dispose();
  });

  it('holds nothing that the key may not see, and says so where it is asked for by name', async () => {
    const user = await createUser(app);
    const client = stockClient(app.wsUrl, user.key);
    const after = await head();
    const mine = collect(client, 'subscription ($a: String) { events(after: $a) { name } }', { a: after });
    const named = collect(client, 'subscription { events(filter: { types: [NOTE_HIDDEN] }) { name } }');
    const field = collect(client, 'subscription { noteHidden { name } }');
    await notesWrite(app, { count: 2, kind: 'hidden' });
    await notesWrite(app, { count: 1 });
    await eventually(() => mine.results.length === 1 && named.error !== undefined && field.error !== undefined);
    expect(mine.results).toMatchObject([{ data: { events: { name: 'note.written' } } }]);
    for (const { error } of [named, field]) expect(error).toMatchObject([{ extensions: { code: 'FORBIDDEN' } }]);
    await client.dispose();
  });

  it('ends when its client goes, over either transport', async () => {
    const stream = { key: app.key, query: 'subscription { events { id } }' };
    const streams = await Promise.all(Array.from({ length: 20 }, () => openSse(app.url, stream)));
    await eventually(async () => (await readMetric(app, 'fanfare_streams')) >= 20);
    for (const each of streams) each.end();
    await eventually(async () => (await readMetric(app, 'fanfare_streams')) === 0);
    expect(await readMetric(app, 'fanfare_stream_groups')).toBe(0);
    if (app.env.REDIS_URL === undefined) return;
    const shards = `${await channelPrefix(app)}shard.`;
    await eventually(async () => (await countChannels({ url: redisUrl() }, shards)) === 0);
    const [one, two] = await Promise.all([openSse(app.url, stream), openSse(app.url, { ...stream, query: QUERY })]);
    await eventually(async () => (await countChannels({ url: redisUrl() }, shards)) === 1);
    one.end();
    two.end();
    await eventually(async () => (await countChannels({ url: redisUrl() }, shards)) === 0);
  });
});

describe('a stream', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ backend: 'postgres', domain: createProbeDomain().domain, domainMigrations: toyMigrations });
  });
  afterAll(() => app.stop());

  const headOf = async (user: Pick<TestApp, 'post'>) => (await user.post('{ head }')).data.head as string;
  const positions = (results: readonly { data?: { events: { position: string } } }[]) =>
    results.map(({ data }) => Number(data?.events.position));

  it('shows no other account anything, and its cursors and ids mean nothing there', async () => {
    const other = await createAccountUser(app);
    const client = stockClient(app.wsUrl, other.key);
    const theirs = collect(client, QUERY);
    const sse = await openSse(app.url, { key: other.key, query: QUERY });
    await eventually(async () => (await readMetric(app, 'fanfare_streams')) === 2);
    const cursor = await headOf(app);
    const { ids } = await notesWrite(app, { count: 100 });
    const own = await notesWrite(other, { count: 1 });
    await eventually(() => theirs.results.length > 0 && sse.results().length > 0);
    expect(positions(theirs.results)).toEqual([1]);
    expect(positions(sse.results())).toEqual([1]);

    const [event] = (await app.post('{ events(last: 1) { nodes { id } } }')).data.events.nodes;
    const looked = await other.post(
      'query ($id: ID!, $note: ID!) { event(id: $id) { id } node(id: $id) { id } nodes(ids: [$id, $note]) { id } events { nodes { subjectId } } }',
      { id: event.id, note: ids[0] },
    );
    expect(looked.data).toEqual({
      event: null,
      node: null,
      nodes: [null, null],
      events: { nodes: [{ subjectId: own.ids[0] }] },
    });

    const commit = (await notesWrite(app, { count: 1 })).cursor;
    for (const foreign of [cursor, commit]) {
      const refused = collect(client, QUERY, { after: foreign });
      await eventually(() => refused.error !== undefined);
      expect(refused.error).toMatchObject([{ extensions: { code: 'INVALID_CURSOR' } }]);
      const overSse = await openSse(app.url, { key: other.key, query: QUERY, headers: { 'last-event-id': foreign } });
      await overSse.ended;
      expect([overSse.status, JSON.parse(overSse.text()).errors[0].extensions.code]).toEqual([400, 'INVALID_CURSOR']);
      const pulled = await other.post('query ($after: String) { events(after: $after) { nodes { id } } }', {
        after: foreign,
      });
      expect(pulled.errors?.[0]?.extensions.code).toBe('INVALID_CURSOR');
    }
    sse.end();
    await client.dispose();
  });

  it('over SSE goes on behind Last-Event-ID, whatever the document says', async () => {
    const start = await headOf(app);
    await notesWrite(app, { count: 4 });
    const first = await openSse(app.url, { key: app.key, query: QUERY, variables: { after: start } });
    await eventually(() => first.results().length === 4);
    expect(first.headers['content-type']).toBe('text/event-stream; charset=utf-8');
    const all = positions(first.results());
    first.end();
    const second = await openSse(app.url, {
      key: app.key,
      query: QUERY,
      variables: { after: start },
      headers: { 'last-event-id': first.events[1]?.id ?? '' },
    });
    await eventually(() => second.results().length === 2);
    expect(positions(second.results())).toEqual(all.slice(2));
    second.end();
  });

  it('works with the stock client of graphql-sse, which also asks queries', async () => {
    const client = createSseClient({ url: app.url, headers: { authorization: `Bearer ${app.key}` }, retryAttempts: 0 });
    const answers = [];
    for await (const result of client.iterate({ query: '{ viewer { account { id } } }' })) answers.push(result);
    expect(answers).toEqual([{ data: { viewer: { account: { id: 'acc_default' } } } }]);
    const after = await headOf(app);
    const events = client.iterate<{ events: { position: string } }>({ query: QUERY, variables: { after } });
    const first = events.next();
    await notesWrite(app, { count: 2 });
    const got = [(await first).value, (await events.next()).value];
    expect(got.map((each) => each?.extensions)).toEqual(
      (await app.post('query ($after: String) { events(after: $after) { nodes { cursor } } }', { after })).data.events
        .nodes,
    );
    await events.return?.();
    client.dispose();
    await eventually(async () => (await readMetric(app, 'fanfare_streams')) === 0);
  });

  it('tells before the first event why it can not begin, over either transport', async () => {
    const socket = await openRawSocket(app.wsUrl, { key: app.key });
    const cases: [string, Record<string, unknown>, number, string][] = [
      [QUERY, { after: 'garbage' }, 400, 'INVALID_CURSOR'],
      [QUERY, { after: 'x'.repeat(10_000) }, 400, 'INVALID_CURSOR'],
      [QUERY, { after: 7 }, 400, 'BAD_INPUT'],
      ['subscription { nothing { id } }', {}, 400, 'GRAPHQL_VALIDATION_FAILED'],
      ['subscription { events { id } noteWritten { id } }', {}, 400, 'GRAPHQL_VALIDATION_FAILED'],
      ['subscription { events @skip(if: true) { id } }', {}, 400, 'GRAPHQL_VALIDATION_FAILED'],
    ];
    for (const [at, [query, variables, status, code]] of cases.entries()) {
      const sse = await openSse(app.url, { key: app.key, query, variables });
      await sse.ended;
      expect([sse.status, JSON.parse(sse.text()).errors[0].extensions.code], query).toEqual([status, code]);
      socket.send(subscribeMessage(String(at), query, { variables }));
      expect(await socket.find(({ id }) => id === String(at)), query).toMatchObject({
        type: 'error',
        payload: [{ extensions: { code } }],
      });
    }
    await socket.end();
    expect(await readMetric(app, 'fanfare_streams')).toBe(0);
  });
});
