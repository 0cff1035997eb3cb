import type { Client } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ApiUser, createAccountUser, createUser, readMetric } from '../support/api-user.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { type Collected, collect, openSse, stockClient } from '../support/live-client.ts';
import { createProbeDomain, notesWrite, type Probes } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';

let app: TestApp;
let probes: Probes;
beforeAll(async () => {
  const probe = createProbeDomain();
  probes = probe.probes;
  app = await startApp({ backend: 'postgres', domain: probe.domain, domainMigrations: toyMigrations });
});
afterAll(() => app.stop());

const gauge = (name: 'streams' | 'stream_groups') => readMetric(app, `fanfare_${name}`);
const until = (streams: number) =>
  eventually(async () => (await gauge('streams')) === streams, { describe: `${streams} streams` });

describe('equal subscribers', () => {
  const COUNTED = 'subscription ($after: String) { noteWritten(after: $after) { position rendered } }';

  it('share one execution for each event, and others have their own', async () => {
    const clients = Array.from({ length: 4 }, () => stockClient(app.wsUrl, app.key));
    // another key with the same scopes sees the same: it is no other audience
    const same = await createUser(app, { scopes: (await app.post('{ viewer { scopes } }')).data.viewer.scopes });
    clients.push(stockClient(app.wsUrl, same.key));
    const after = (await app.post('{ head }')).data.head;
    const equal = clients.flatMap((client, at) =>
      Array.from({ length: 40 }, (_, n) => collect(client, COUNTED, (at + n) % 2 === 0 ? {} : { after })),
    );
    await until(200);
    expect(await gauge('stream_groups')).toBe(1);
    const written = async (count: number, watched: readonly Collected[]) => {
      const before = watched.map(({ results }) => results.length);
      probes.renders = 0;
      await notesWrite(app, { count });
      await eventually(() => watched.every(({ results }, at) => results.length === (before[at] ?? 0) + count));
      return probes.renders;
    };
    expect(await written(10, equal)).toBe(10);

    const narrower = await createUser(app);
    const client = stockClient(app.wsUrl, narrower.key);
    const other = [collect(client, COUNTED), collect(client, COUNTED)];
    await until(202);
    expect(await written(10, [...equal, ...other])).toBe(20);
    for (const each of [...equal, ...other]) expect(each.results.at(-1)).toEqual(equal[0]?.results.at(-1));
    await Promise.all([...clients, client].map((each) => each.dispose()));
    await until(0);
  });
});

describe('equal subscribers over WebSocket and SSE', () => {
  it('share one execution for each event, with their cursors and checkpoints their own', async () => {
    const query = 'subscription ($after: String) { noteWritten(after: $after) { position rendered } }';
    const after = (await app.post('{ head }')).data.head;
    const client = stockClient(app.wsUrl, app.key);
    const overSocket = [collect(client, query, { after }), collect(client, query, {}, { after, checkpoints: true })];
    const overSse = await Promise.all(
      [{ checkpoints: true }, { after }].map((extensions) => openSse(app.url, { key: app.key, query, extensions })),
    );
    await until(4);
    expect(await gauge('stream_groups')).toBe(1);
    probes.renders = 0;
    await notesWrite(app, { count: 10 });
    const events = () => [...overSocket.map(({ results }) => results), ...overSse.map((each) => each.results())];
    const withData = () => events().map((results) => results.filter(({ data }) => data !== undefined));
    await eventually(() => withData().every(({ length }) => length === 10));
    expect(probes.renders).toBe(10);
    for (const results of withData()) expect(results).toEqual(withData()[0]);
    for (const each of overSse) each.end();
    await client.dispose();
    await until(0);
  });
});

describe('subscribers of different accounts and scopes', () => {
  const EVENT = 'subjectId position';
  const DOCUMENTS = [
    `subscription ($tag: [ID!], $text: Boolean!, $a: String) { events(filter: { related: $tag }, after: $a) { ${EVENT} ... on NoteWritten { note { text @include(if: $text) } } } }`,
    `subscription a($tag: [ID!], $text: Boolean!, $a: String) { e: events(filter: { related: $tag }, after: $a) { ...f } } fragment f on Event { ${EVENT} ... on NoteCopied { note { noteId @skip(if: $text) } } }`,
    `subscription ($text: Boolean!, $a: String) { noteWritten(after: $a) { ${EVENT} note { noteId text @include(if: $text) } tag } }`,
    `subscription ($text: Boolean!, $a: String) { noteCopied(after: $a) { ${EVENT} changed @include(if: $text) } }`,
  ];
  const SCOPES = [
    ['events:read', 'notes:read', 'notes:write'],
    ['events:read', 'notes:read', 'notes:hidden', 'notes:write'],
    ['events:read', 'notes:write'],
  ];

  interface Subscriber {
    readonly user: ApiUser;
    readonly client: Client;
    readonly document: string;
    readonly variables: Record<string, unknown>;
    readonly collected: Collected;
  }

  it('get what they would get alone, and never a word of another account', async () => {
    const users = await createUsers();
    const clients = users.map((user) => stockClient(app.wsUrl, user.key));
    const subscribers: Subscriber[] = [];
    for (const [at, user] of users.entries()) {
      const client = clients[at];
      if (client === undefined) throw new Error('each user has a client');
      const a = (await user.post('{ head }')).data.head;
      for (const document of DOCUMENTS) {
        for (let n = 0; n < 6; n++) {
          const tag = document.includes('$tag') ? { tag: [['note_a'], ['note_b'], ['note_a', 'note_b']][n % 3] } : {};
          const variables = { ...tag, text: n < 3, a };
          subscribers.push({ user, client, document, variables, collected: collect(client, document, variables) });
        }
      }
    }
    const refused = subscribers.filter(
      ({ user, document }) => users.indexOf(user) % 3 === 2 && !document.includes('$tag'),
    );
    await until(subscribers.length - refused.length);
    await eventually(() => refused.every(({ collected }) => collected.error !== undefined));
    for (const { collected } of refused) expect(collected.error).toMatchObject([{ extensions: { code: 'FORBIDDEN' } }]);

    for (const writer of users.filter((_, at) => at % 3 === 1))
      for (const kind of ['written', 'copied', 'hidden'] as const)
        for (const tag of ['note_a', 'note_b', 'note_c'])
          await notesWrite(writer, { count: 1, kind, tag, subjectId: subjectOf(writer) });

    let seen = 0;
    for (const { user, client, document, variables, collected } of subscribers) {
      if (collected.error !== undefined) continue;
      const own = collect(client, `${document} # a group of its own ${seen}`, variables);
      const count = expectedCount(users.indexOf(user), document, variables.tag as string[] | undefined);
      await eventually(() => own.results.length >= count && collected.results.length >= count);
      own.unsubscribe();
      expect(own.results).toHaveLength(count);
      expect(collected.results).toEqual(own.results);
      for (const { data } of collected.results) {
        seen++;
        expect((Object.values(data)[0] as { subjectId: string }).subjectId).toBe(subjectOf(user));
      }
    }
    expect(seen).toBeGreaterThan(200);
    await Promise.all(clients.map((client) => client.dispose()));
    await until(0);
  });

  const subjectOf = ({ accountId }: ApiUser) => `note_${accountId.slice(4)}`;

  async function createUsers(): Promise<ApiUser[]> {
    const users: ApiUser[] = [];
    for (let n = 0; n < 3; n++) {
      const first = await createAccountUser(app, { scopes: SCOPES[0] ?? [] });
      users.push(first);
      for (const scopes of SCOPES.slice(1)) users.push(await createUser(app, { scopes, accountId: first.accountId }));
    }
    return users;
  }

  /** One event of each kind and tag was written in each account. */
  function expectedCount(
    user: number,
    document: string,
    tags: readonly string[] = ['note_a', 'note_b', 'note_c'],
  ): number {
    const visible = [['written', 'copied'], ['written', 'copied', 'hidden'], []][user % 3] ?? [];
    const asked = /note(Written|Copied)\(/.exec(document)?.[1]?.toLowerCase();
    return visible.filter((kind) => asked === undefined || kind === asked).length * tags.length;
  }
});
