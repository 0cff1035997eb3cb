import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeKey } from '../../src/identity/key-format.ts';
import { createAccountUser } from '../support/api-user.ts';
import { BACKENDS, post, startApp, type TestApp } from '../support/app.ts';
import { createEmbeddedFolder, createTestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { openRawSocket, subscribeMessage } from '../support/live-client.ts';
import { startProbeServer } from '../support/probe-server.ts';
import { redisUrl } from '../support/redis.ts';
import { domain, toyMigrations } from '../support/toy-domain.ts';

const WRITE = `mutation ($text: String!) {
  noteWrite(text: $text) { __typename ... on NoteWriteSuccess { cursor note { id version text } } ... on Refusal { code } }
}`;

describe.each(BACKENDS)('an Idempotency-Key on %s', (backend) => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ backend, domain, domainMigrations: toyMigrations });
  });
  afterAll(() => app.stop());

  const write = (key: string, text: string) => app.post(WRITE, { text }, { 'idempotency-key': key });
  const notesOf = async (text: string) =>
    (await app.post('{ notes(first: 100) { nodes { text } } }')).data.notes.nodes.filter(
      (note: { text: string }) => note.text === text,
    );

  it('makes one change and one event of 50 concurrent calls, with equal answers', async () => {
    const answers = await Promise.all(Array.from({ length: 50 }, () => write('fifty', 'fifty')));
    expect(answers[0]?.data.noteWrite.__typename).toBe('NoteWriteSuccess');
    for (const answer of answers) expect(answer).toEqual(answers[0]);
    expect(await notesOf('fifty')).toHaveLength(1);
    const { id, cursor } = { ...answers[0]?.data.noteWrite.note, ...answers[0]?.data.noteWrite };
    const events = await app.post(
      'query ($id: ID!, $c: String!) { events(filter: { subjects: [$id] }) { nodes { cursor } } behind: events(after: $c) { nodes { id } } }',
      { id, c: cursor },
    );
    expect(events.data).toMatchObject({ events: { nodes: [{}] }, behind: { nodes: [] } });
    // over another transport it is the same call
    const socket = await openRawSocket(app.wsUrl, { key: app.key });
    socket.send(
      subscribeMessage('1', WRITE, { variables: { text: 'fifty' }, extensions: { idempotencyKey: 'fifty' } }),
    );
    const { payload } = await socket.find((message) => message.type === 'next');
    expect(payload).toEqual(answers[0]);
    await socket.end();
  });
});

describe('an Idempotency-Key', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ backend: 'postgres', domain, domainMigrations: toyMigrations });
  });
  afterAll(() => app.stop());

  const keyed = (key: string, query: string, variables = {}) => app.post(query, variables, { 'idempotency-key': key });
  const codeOf = (answer: { errors?: readonly { extensions: { code?: unknown } }[] }) =>
    answer.errors?.[0]?.extensions.code;

  it('is one whether it comes as header or as extension', async () => {
    const first = await keyed('both', WRITE, { text: 'a' });
    const again = await post(app, { query: WRITE, variables: { text: 'a' }, extensions: { idempotencyKey: 'both' } });
    expect(again).toEqual(first);
  });

  it('is refused for other arguments or another field', async () => {
    await keyed('other', WRITE, { text: 'a' });
    expect(codeOf(await keyed('other', WRITE, { text: 'b' }))).toBe('CONFLICT');
    expect(codeOf(await keyed('other', 'mutation { accountCreate(name: "a") { __typename } }'))).toBe('CONFLICT');
    const others = await createAccountUser(app);
    const theirs = await others.post(WRITE, { text: 'b' }, { 'idempotency-key': 'other' });
    expect(theirs.data.noteWrite.__typename).toBe('NoteWriteSuccess');
  });

  it('is refused beside more than one root field', async () => {
    const two = 'mutation { a: noteWrite(text: "x") { __typename } b: noteWrite(text: "y") { __typename } }';
    expect(codeOf(await keyed('two', two))).toBe('BAD_INPUT');
    const hidden = 'mutation { ...f } fragment f on Mutation { noteWrite(text: "x") { __typename } }';
    expect(codeOf(await keyed('two', hidden))).toBe('BAD_INPUT');
    expect(
      (await app.post('{ notes { nodes { text } } }')).data.notes.nodes.map((n: { text: string }) => n.text),
    ).not.toContain('x');
  });

  it('must be 1 to 255 visible characters', async () => {
    for (const key of ['', 'a b', 'é', 'x'.repeat(256), 5, {}]) {
      const answer = await post(app, { query: WRITE, variables: { text: 'a' }, extensions: { idempotencyKey: key } });
      expect(codeOf(answer), String(key)).toBe('BAD_INPUT');
    }
  });

  it('does not remember refusals', async () => {
    const long = await keyed('refused', WRITE, { text: 'x'.repeat(1_001) });
    expect(long.data.noteWrite).toMatchObject({ __typename: 'NoteTooLong' });
    expect((await keyed('refused', WRITE, { text: 'short' })).data.noteWrite.__typename).toBe('NoteWriteSuccess');
  });

  it('answers a repeat with dates and objects as the first call, and without its secret', async () => {
    const account =
      'mutation { accountCreate(name: "a") { ... on AccountCreateSuccess { cursor account { id name createdAt } } } }';
    const first = await keyed('account', account);
    expect(first.data.accountCreate.account.createdAt).toMatch(/Z$/);
    expect(await keyed('account', account)).toEqual(first);
    const key =
      'mutation { apiKeyCreate(scopes: ["events:read"]) { ... on ApiKeyCreateSuccess { secret apiKey { id scopes } } } }';
    const made = await keyed('key', key);
    expect(made.data.apiKeyCreate.secret).toMatch(/^ff_/);
    expect(await keyed('key', key)).toEqual({ data: { apiKeyCreate: { ...made.data.apiKeyCreate, secret: null } } });
  });
});

describe.each(['embedded', 'postgres and redis'] as const)('a server on %s that dies before it answers', (backend) => {
  it('has made the change once, and tells so when it is asked again', async () => {
    const place = backend === 'embedded' ? await createEmbeddedFolder() : await createTestDatabase();
    const env = {
      ADMIN_API_KEY: makeKey(),
      DRAIN_SECONDS: '1',
      ...('url' in place
        ? { DATABASE_URL: place.url, REDIS_URL: redisUrl(), SECRETS_KEY: 'ab'.repeat(32) }
        : { DATA_DIR: place.dataDir }),
    };
    const save = (fields: string) => ({
      query: `mutation { noteSave(text: "once") { ... on NoteSaveSuccess { note { id ${fields} } } } }`,
      extensions: { idempotencyKey: 'fatal' },
    });
    const first = await startProbeServer(env);
    await expect(post({ url: first.url, key: env.ADMIN_API_KEY }, save('fatal'))).rejects.toThrow();
    expect(await first.exited).toBe('SIGKILL');

    const second = await startProbeServer(env);
    const ask = (body: unknown) => post({ url: second.url, key: env.ADMIN_API_KEY }, body);
    const saved = await ask(save('text'));
    expect(saved.data.noteSave.note).toMatchObject({ text: 'once' });
    expect(await ask(save('text'))).toEqual(saved);
    // the dead process's leases have to run out first
    await eventually(async () => {
      const after = await ask({ query: '{ notes { nodes { id } } events { nodes { position subjectId } } }' });
      expect(after.data).toEqual({
        notes: { nodes: [{ id: saved.data.noteSave.note.id }] },
        events: { nodes: [{ position: '1', subjectId: saved.data.noteSave.note.id }] },
      });
    });
    await second.stop();
    await ('url' in place ? place.drop() : place.remove());
  });
});
