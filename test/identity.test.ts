import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeKey } from '../src/identity/key-format.ts';
import { BACKENDS, post, startApp, type TestApp } from './support/app.ts';
import { eventually } from './support/eventually.ts';
import { domain, toyMigrations } from './support/toy-domain.ts';

const CREATE_KEY = `mutation ($accountId: ID, $scopes: [String!]!, $expiresAt: DateTime) {
  apiKeyCreate(accountId: $accountId, scopes: $scopes, expiresAt: $expiresAt) {
    ... on ApiKeyCreateSuccess { secret apiKey { id scopes } }
  }
}`;

describe.each(BACKENDS)('accounts and keys on %s', (backend) => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ backend, domain, domainMigrations: toyMigrations });
  });
  afterAll(() => app.stop());

  async function createAccount(): Promise<string> {
    const { data } = await app.post(
      'mutation { accountCreate(name: "other") { ... on AccountCreateSuccess { account { id name } } } }',
    );
    expect(data.accountCreate.account.id).toMatch(/^acc_[0-9a-f]{32}$/);
    return data.accountCreate.account.id;
  }

  async function createKey(variables: Record<string, unknown>): Promise<{ url: string; key: string; id: string }> {
    const answer = await app.post(CREATE_KEY, { scopes: ['events:read', 'notes:read', 'notes:write'], ...variables });
    expect(answer.errors).toBeUndefined();
    return { url: app.url, key: answer.data.apiKeyCreate.secret, id: answer.data.apiKeyCreate.apiKey.id };
  }

  it("shows nothing of another account's objects", async () => {
    const other = await createKey({ accountId: await createAccount() });
    const written = await app.post(
      'mutation { noteWrite(text: "mine") { ... on NoteWriteSuccess { cursor note { id } } } }',
    );
    const { cursor, note } = written.data.noteWrite;
    const pulled = await app.post('{ events(last: 1) { nodes { id } } }');
    const eventId = pulled.data.events.nodes[0]?.id ?? 'evt_0';

    const seen = await post(other, {
      query:
        'query ($id: ID!, $event: ID!) { note(id: $id) { id } notes { nodes { id } } node(id: $id) { id } event(id: $event) { id } nodes(ids: [$id, $event]) { id } events { nodes { id } } viewer { account { name } } }',
      variables: { id: note.id, event: eventId },
    });
    expect(seen).toEqual({
      data: {
        note: null,
        notes: { nodes: [] },
        node: null,
        event: null,
        nodes: [null, null],
        events: { nodes: [] },
        viewer: { account: { name: 'other' } },
      },
    });
    const foreignCursor = await post(other, {
      query: 'query ($after: String) { events(after: $after) { nodes { id } } }',
      variables: { after: cursor },
    });
    expect(foreignCursor.errors?.[0]?.extensions.code).toBe('INVALID_CURSOR');
    const edited = await post(other, {
      query: 'mutation ($id: ID!) { noteEdit(id: $id, text: "theirs") { __typename } }',
      variables: { id: note.id },
    });
    expect(edited.errors?.[0]?.extensions.code).toBe('NOT_FOUND');
  });

  it('refuses what the scopes do not allow', async () => {
    const reader = await createKey({ scopes: ['events:read'] });
    const codeOf = async (query: string) => (await post(reader, { query })).errors?.[0]?.extensions.code;
    expect(await codeOf('mutation { noteWrite(text: "x") { __typename } }')).toBe('FORBIDDEN');
    expect(await codeOf('{ notes { nodes { id } } }')).toBe('FORBIDDEN');
    expect(await codeOf('{ __schema { queryType { name } } }')).toBe('FORBIDDEN');
    expect(await codeOf('{ events(filter: { types: [NOTE_WRITTEN] }) { nodes { id } } }')).toBe('FORBIDDEN');
    expect(await codeOf('mutation { accountCreate(name: "x") { __typename } }')).toBe('FORBIDDEN');
    expect(await post(reader, { query: '{ events { nodes { id } } }' })).toEqual({ data: { events: { nodes: [] } } });
  });

  it('gives no scope away that the creator lacks, and no unknown one', async () => {
    const creator = await createKey({ scopes: ['keys:write', 'events:read'] });
    const codeOf = async (variables: unknown) =>
      (await post(creator, { query: CREATE_KEY, variables })).errors?.[0]?.extensions.code;
    expect(await codeOf({ scopes: ['notes:write'] })).toBe('FORBIDDEN');
    expect(await codeOf({ scopes: ['notes:wirte'] })).toBe('BAD_INPUT');
    expect(await codeOf({ scopes: ['events:read'], accountId: await createAccount() })).toBe('NOT_FOUND');
  });

  it('ends a revoked and an expired key at once, with one text for all reasons', async () => {
    const key = await createKey({});
    expect(await post(key, { query: '{ viewer { id } }' })).toEqual({ data: { viewer: { id: key.id } } });
    await app.post('mutation ($id: ID!) { apiKeyRevoke(id: $id) { __typename } }', { id: key.id });
    const expired = await createKey({ expiresAt: new Date(Date.now() + 50).toISOString() });
    await eventually(async () => {
      expect((await post(expired, { query: '{ viewer { id } }' })).errors?.[0]?.extensions.code).toBe(
        'UNAUTHENTICATED',
      );
    });
    const answers = await Promise.all(
      [key, expired, { url: app.url, key: makeKey() }, { url: app.url, key: 'ff_x' }].map((each) =>
        post(each, { query: '{ viewer { id } }' }),
      ),
    );
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
  });

  it('shows a secret once: a repeat with the same idempotency key has null', async () => {
    const create = () =>
      app.post(CREATE_KEY, { scopes: ['events:read'] }, { 'idempotency-key': `once-${backend.replaceAll(' ', '-')}` });
    const first = await create();
    const second = await create();
    expect(first.data.apiKeyCreate.secret).toMatch(/^ff_/);
    expect(second.data.apiKeyCreate).toEqual({ ...first.data.apiKeyCreate, secret: null });
  });
});
