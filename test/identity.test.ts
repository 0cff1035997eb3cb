import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectPostgres } from '../src/database/connect.ts';
import { StartupError } from '../src/errors.ts';
import { makeKey, parseKey } from '../src/identity/key-format.ts';
import { createKeyStore, ensureAdminKey } from '../src/identity/keys.ts';
import { BACKENDS, post, startApp, type TestApp } from './support/app.ts';
import { createTestDatabase } from './support/database.ts';
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

  it('refuses a description that is too long or can not be stored, and an end that is past or too far away', async () => {
    const refusal = async (variables: Record<string, unknown>) => {
      const query = `mutation ($description: String, $expiresAt: DateTime) {
        apiKeyCreate(scopes: ["events:read"], description: $description, expiresAt: $expiresAt) { __typename } }`;
      const [error] = (await app.post(query, variables)).errors ?? [];
      return [error?.extensions.code, error?.message];
    };
    expect(await refusal({ description: 'x'.repeat(201) })).toEqual(['BAD_INPUT', expect.stringMatching(/200/)]);
    expect(await refusal({ description: 'a\0' })).toEqual(['BAD_INPUT', expect.stringMatching(/U\+0000/)]);
    expect(await refusal({ expiresAt: '2020-01-01T00:00:00Z' })).toEqual(['BAD_INPUT', expect.stringMatching(/past/)]);
    expect(await refusal({ expiresAt: '9999-12-31T23:59:59-01:00' })).toEqual([
      'BAD_INPUT',
      expect.stringMatching(/9999/),
    ]);
    expect(await refusal({ description: 'x'.repeat(200), expiresAt: '9999-12-31T23:59:59Z' })).toEqual([
      undefined,
      undefined,
    ]);
  });

  it('revokes no key that holds more than the caller, and those of other accounts for operators only', async () => {
    const REVOKE =
      'mutation ($id: ID!, $accountId: ID) { apiKeyRevoke(id: $id, accountId: $accountId) { __typename } }';
    const revoke = async (caller: { url: string; key: string }, variables: Record<string, unknown>) => {
      const { data, errors } = await post(caller, { query: REVOKE, variables });
      return errors?.[0]?.extensions.code ?? data.apiKeyRevoke.__typename;
    };
    const lesser = await createKey({ scopes: ['keys:write', 'events:read'] });
    const operator = await createKey({ scopes: ['keys:write', 'operator'] });
    const equal = await createKey({ scopes: ['events:read'] });
    expect(await revoke(lesser, { id: operator.id })).toBe('FORBIDDEN');
    expect((await post(operator, { query: '{ viewer { id } }' })).errors).toBeUndefined();
    expect(await revoke(lesser, { id: equal.id })).toBe('ApiKeyRevokeSuccess');

    const accountId = await createAccount();
    const foreign = await createKey({ accountId });
    expect(await revoke(lesser, { id: foreign.id })).toBe('NOT_FOUND');
    expect(await revoke(lesser, { id: foreign.id, accountId })).toBe('NOT_FOUND');
    expect(await revoke({ url: app.url, key: app.key }, { id: foreign.id })).toBe('NOT_FOUND');
    expect((await post(foreign, { query: '{ viewer { id } }' })).errors).toBeUndefined();
    expect(await revoke({ url: app.url, key: app.key }, { id: foreign.id, accountId })).toBe('ApiKeyRevokeSuccess');
    expect((await post(foreign, { query: '{ viewer { id } }' })).errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
    expect(await revoke(lesser, { id: 'key_a\0' })).toBe('NOT_FOUND');
  });

  it('ends a revoked and an expired key at once, with one text for all reasons', async () => {
    const key = await createKey({});
    expect(await post(key, { query: '{ viewer { id } }' })).toEqual({ data: { viewer: { id: key.id } } });
    await app.post('mutation ($id: ID!) { apiKeyRevoke(id: $id) { __typename } }', { id: key.id });
    const expired = await createKey({ expiresAt: new Date(Date.now() + 2_000).toISOString() });
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

describe('the admin key', () => {
  it('is made, renewed and revived as the settings say, but is never taken out of another account', async () => {
    const { url, drop } = await createTestDatabase();
    const database = await connectPostgres({ url });
    try {
      const key = makeKey();
      const id = parseKey(key)?.id ?? '';
      const keys = createKeyStore(database);
      await sql`insert into fanfare.account (id, name, shard) values ('acc_other', 'other', 0)`.execute(database.db);
      await ensureAdminKey(database, key, ['operator']);
      await sql`update fanfare.api_key set revoked_at = fanfare.now(), expires_at = '2020-01-01' where id = ${id}`.execute(
        database.db,
      );
      await expect(keys.authenticate(key)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
      await ensureAdminKey(database, key, ['operator']);
      expect(await keys.authenticate(key)).toMatchObject({ accountId: 'acc_default', expiresAt: undefined });

      await sql`update fanfare.api_key set account_id = 'acc_other', scopes = '{events:read}' where id = ${id}`.execute(
        database.db,
      );
      await expect(ensureAdminKey(database, key, ['operator'])).rejects.toBeInstanceOf(StartupError);
      expect((await keys.authenticate(key)).scopes).toEqual(new Set(['events:read']));
    } finally {
      await database.close();
      await drop();
    }
  });
});
