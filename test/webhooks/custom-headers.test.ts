import { sql } from 'kysely';
import { describe, expect, it } from 'vitest';
import { createHeaderBook } from '../../src/webhooks/header-book.ts';
import { createSealer } from '../../src/webhooks/seal.ts';
import type { RunOptions } from '../support/engine.ts';
import { sealer, workOff } from './webhook-engine.ts';
import { useWebhookScene } from './webhook-scene.ts';

const scene = useWebhookScene();
const NOTES = 'subscription { noteWritten { note { text } } }';
const SHOWN = 'headers { name value } hasBasicAuth parkedReason';
const READ = `query ($id: ID!) { webhook(id: $id) { url ${SHOWN} } }`;
const CREATE = `mutation ($input: WebhookCreateInput!) { webhookCreate(input: $input) { ... on WebhookCreateSuccess { webhook { id } } } }`;
const UPDATE = `mutation ($input: WebhookUpdateInput!) { webhookUpdate(input: $input) {
  ... on WebhookUpdateSuccess { webhook { ${SHOWN} } } ... on Refusal { code } } }`;

interface Shown {
  readonly headers: readonly { readonly name: string; readonly value: string }[];
  readonly hasBasicAuth: boolean;
  readonly parkedReason: string | null;
}

type Input = Readonly<Record<string, unknown>>;

const read = async (id: string, options: RunOptions = {}) => {
  const { webhook } = await scene.engine.run<{ webhook: Shown }>(READ, {
    accountId: scene.accountId,
    ...options,
    variables: { id },
  });
  return webhook;
};
const namesOf = ({ headers }: Shown) => headers.map(({ name }) => name);
const update = async (input: Input) => {
  const { webhookUpdate } = await scene.engine.run<{ webhookUpdate: { webhook: Shown } }>(UPDATE, {
    accountId: scene.accountId,
    variables: { input },
  });
  return webhookUpdate.webhook;
};
const failUpdate = (input: Input) => scene.engine.fail(UPDATE, { accountId: scene.accountId, variables: { input } });
const failCreate = (input: Input) => {
  const variables = { input: { url: `${scene.receiver.url}/none`, query: NOTES, ...input } };
  return scene.engine.fail(CREATE, { accountId: scene.accountId, variables });
};
const send = async (text: string, worker = scene.engine.createWorker()) => {
  await scene.engine.writeNote(text, scene.accountId);
  await scene.engine.stampedEvents(scene.accountId);
  await workOff(worker);
};
const many = (count: number, value = 'a') =>
  Object.fromEntries(Array.from({ length: count }, (_, at) => [`x-${at}`, value]));

describe('a webhook’s headers', () => {
  it('go along with each request, ours unchanged', async () => {
    const { id, received } = await scene.hook({ headers: { 'X-Api-Key': 'k1', 'x-tenant': 'a b' } });
    await scene.engine.run('mutation ($id: ID!) { webhookPing(id: $id) { __typename } }', {
      accountId: scene.accountId,
      variables: { id },
    });
    await send('first');
    expect(received()).toHaveLength(2);
    for (const { headers } of received()) {
      expect(headers).toMatchObject({
        'x-api-key': 'k1',
        'x-tenant': 'a b',
        'content-type': 'application/json',
        'webhook-id': expect.stringMatching(/^dlv_/),
        'webhook-signature': expect.stringMatching(/^v1,/),
      });
      expect(headers).not.toHaveProperty('authorization');
    }
  });

  it('are shown by their names, with one mask for every value', async () => {
    const headers = { 'X-B': 'short', 'x-a': 'a much longer value' };
    const { id } = await scene.hook({ headers, basicAuth: { username: 'u', password: 'p' } });
    const shown = await read(id);
    expect(shown.headers).toEqual([
      { name: 'x-a', value: '********' },
      { name: 'x-b', value: '********' },
    ]);
    expect(shown.hasBasicAuth).toBe(true);
    const plain = await scene.hook();
    expect(await read(plain.id)).toMatchObject({ headers: [], hasBasicAuth: false });
  });

  it('change one by one; null takes one away, what is not named stays', async () => {
    const { id, received } = await scene.hook({ headers: { 'x-a': '1', 'x-b': '2' } });
    expect(namesOf(await update({ id, headers: { 'X-B': '3', 'x-c': '4' } }))).toEqual(['x-a', 'x-b', 'x-c']);
    expect(namesOf(await update({ id, headers: { 'x-a': null, 'x-never': null } }))).toEqual(['x-b', 'x-c']);
    expect(namesOf(await update({ id, headers: {} }))).toEqual(['x-b', 'x-c']);
    expect(namesOf(await update({ id, description: 'other' }))).toEqual(['x-b', 'x-c']);
    await send('changed');
    expect(received()[0]?.headers).toMatchObject({ 'x-b': '3', 'x-c': '4' });
    expect(received()[0]?.headers).not.toHaveProperty('x-a');
    expect(namesOf(await update({ id, headers: { 'x-b': null, 'x-c': null } }))).toEqual([]);
    const { db } = scene.engine.services.database;
    const row = await db.selectFrom('fanfare.webhook').select('sealed_headers').where('id', '=', id).executeTakeFirst();
    expect(row).toEqual({ sealed_headers: null });
  });

  it('change from one delivery to the next in a worker that has sent the earlier ones', async () => {
    const { id, received } = await scene.hook({ headers: { 'x-key': 'old' } });
    const worker = scene.engine.createWorker();
    await send('one', worker);
    await update({ id, headers: { 'x-key': 'new' } });
    await send('two', worker);
    await update({ id, headers: { 'x-key': null } });
    await send('three', worker);
    expect(received().map(({ headers }) => headers['x-key'])).toEqual(['old', 'new', undefined]);
  });

  it('carry basic auth, in place of an authorization of their own', async () => {
    const { id, received } = await scene.hook({ basicAuth: { username: 'us', password: 'pä:ss' } });
    await send('basic');
    expect(received()[0]?.headers.authorization).toBe(`Basic ${Buffer.from('us:pä:ss').toString('base64')}`);
    const beside = {
      code: 'BAD_INPUT',
      message: expect.stringContaining('"authorization" is refused: "basicAuth" sets it'),
    };
    expect(await failUpdate({ id, headers: { Authorization: 'Bearer x' } })).toMatchObject(beside);
    const both = { headers: { authorization: 'Bearer x' }, basicAuth: { username: 'u' } };
    expect(await failCreate(both)).toMatchObject(beside);
    const bearer = await update({ id, headers: { Authorization: 'Bearer x' }, basicAuth: {} });
    expect(bearer).toMatchObject({ headers: [{ name: 'authorization' }], hasBasicAuth: false });
    expect(await failUpdate({ id, basicAuth: { username: 'u' } })).toMatchObject(beside);
    await send('bearer');
    expect(received()[1]?.headers.authorization).toBe('Bearer x');
    expect(await update({ id, headers: { authorization: null } })).toMatchObject({ headers: [], hasBasicAuth: false });
  });

  it('are bounded in number and length, in what they come to', async () => {
    const { id } = await scene.hook({ headers: many(20) });
    expect(await failCreate({ headers: many(21) })).toMatchObject({
      message: expect.stringContaining('at most 20, found 21'),
    });
    expect(await failUpdate({ id, headers: { 'x-more': 'a' } })).toMatchObject({ code: 'BAD_INPUT' });
    expect(namesOf(await update({ id, headers: { 'x-0': null, 'x-more': 'a' } }))).toHaveLength(20);
    expect(await failCreate({ headers: many(4, 'a'.repeat(1_000)) })).toMatchObject({
      message: expect.stringMatching(/at most 4000 characters in all names and values, found 4012/),
    });
    expect(await failCreate({ headers: { host: 'a' } })).toMatchObject({ code: 'BAD_INPUT' });
  });

  it('do not follow the webhook to another URL by themselves', async () => {
    const { id, path } = await scene.hook({ headers: { 'x-a': '1', 'x-b': '2' }, basicAuth: { username: 'u' } });
    const url = `${scene.receiver.url}${path}/elsewhere`;
    const stays = async (input: Input) =>
      (await failUpdate({ id, url, ...input })) as { code: string; message: string };
    expect(await stays({})).toMatchObject({
      code: 'BAD_INPUT',
      message: expect.stringMatching(/x-a, x-b, basicAuth$/),
    });
    expect((await stays({ headers: { 'x-a': '1' }, basicAuth: {} })).message).toMatch(/expected also x-b$/);
    const unmoved = await read(id);
    expect(unmoved).toMatchObject({ url: `${scene.receiver.url}${path}`, hasBasicAuth: true });
    // the same one is no other
    await update({ id, url: `${scene.receiver.url}${path}` });
    expect(await update({ id, url, headers: { 'x-a': '1', 'x-b': null }, basicAuth: {} })).toMatchObject({
      headers: [{ name: 'x-a' }],
      hasBasicAuth: false,
    });
  });

  it('can only be changed by a key that may see what the webhook sees', async () => {
    const { id } = await scene.hook({ headers: { 'x-a': '1' } });
    const variables = { input: { id, headers: { 'x-a': '2' } } };
    const poor = { accountId: scene.accountId, scopes: ['webhooks:write', 'events:read'], variables };
    expect(await scene.engine.fail(UPDATE, poor)).toMatchObject({ code: 'FORBIDDEN' });
  });

  it('leave their values in no table and no log, attempts that fail among them', async () => {
    const [value, password] = ['vvvalue-to-be-hidden', 'passsword-to-be-hidden'];
    const { path } = await scene.hook({ headers: { 'x-key': value }, basicAuth: { username: 'u', password } });
    scene.receiver.always(path, { status: 500 });
    await failCreate({ headers: { 'x-key': `${value}\n` } });
    await failCreate({ headers: { host: value } });
    await send('secretive');
    const printed = (await dump()) + JSON.stringify(scene.engine.seen);
    expect(printed).toContain(path);
    const authorization = Buffer.from(`u:${password}`).toString('base64');
    for (const text of [value, password, authorization, Buffer.from(value).toString('hex'), btoa(value)])
      expect(printed).not.toContain(text);
  });
});

describe('headers that can’t be opened', () => {
  const other = createSealer({ key: new Uint8Array(32).fill(9) });
  const next = createSealer({ key: new Uint8Array(32).fill(8), previousKey: new Uint8Array(32).fill(7) });
  const tables = () => scene.engine.services.database.db;
  const setSealed = (id: string, sealed: string) =>
    tables().updateTable('fanfare.webhook').set({ sealed_headers: sealed }).where('id', '=', id).execute();

  it('park the webhook, until they are given anew', async () => {
    const { id, received } = await scene.hook({ headers: { 'x-a': '1', 'x-b': '2' } });
    await setSealed(id, other.seal('{"custom":{"x-a":"1","x-b":"2"},"basicAuth":null}', `${id}/headers`));
    await send('parked');
    expect((await read(id)).parkedReason).toMatch(/^its headers can't be opened: sealed with a key that is not here/);
    expect(received()).toEqual([]);
    expect(await scene.engine.deliveries({ webhookId: id }, { accountId: scene.accountId })).toMatchObject([
      { status: 'PARKED', attemptCount: 0 },
    ]);
    expect(scene.engine.seen).toContainEqual(expect.objectContaining({ name: 'webhook.parked', webhook_id: id }));
    expect(await failUpdate({ id, headers: { 'x-a': '1' } })).toMatchObject({ code: 'CONFLICT' });
    const repaired = await update({ id, headers: { 'x-a': '3', 'x-b': null } });
    expect(repaired).toMatchObject({ parkedReason: null, headers: [{ name: 'x-a' }] });
    await workOff(scene.engine.createWorker());
    expect(received()[0]?.headers).toMatchObject({ 'x-a': '3' });
  });

  it('are released by a worker that can open them, which seals them anew', async () => {
    const { id, received } = await scene.hook({ headers: { 'x-a': '1' } });
    await send('waits', scene.engine.createWorker({ sealer: other }));
    expect((await read(id)).parkedReason).toMatch(/can't be opened/);
    await workOff(scene.engine.createWorker({ sealer: next }));
    expect(received()[0]?.headers).toMatchObject({ 'x-a': '1' });
    const row = await tables()
      .selectFrom('fanfare.webhook')
      .select('sealed_headers')
      .where('id', '=', id)
      .executeTakeFirst();
    expect(next.isStale(row?.sealed_headers ?? '')).toBe(false);
    // back, for the tests behind this one
    await workOff(
      scene.engine.createWorker({
        sealer: createSealer({ key: new Uint8Array(32).fill(7), previousKey: new Uint8Array(32).fill(8) }),
      }),
    );
  });

  it('are neither another webhook’s nor a signing secret', async () => {
    const [first, second] = [await scene.hook({ headers: { 'x-a': '1' } }), await scene.hook()];
    const book = createHeaderBook(sealer);
    const rows = await tables()
      .selectFrom('fanfare.webhook')
      .select(['id', 'sealed_headers'])
      .where('id', 'in', [first.id, second.id])
      .execute();
    const sealed_headers = rows.find(({ id }) => id === first.id)?.sealed_headers ?? null;
    expect(book.of({ id: first.id, sealed_headers })).toEqual({ 'x-a': '1' });
    expect(book.faultOf({ id: second.id, sealed_headers })).toMatch(/belongs to another place/);
    const secret = await tables()
      .selectFrom('fanfare.webhook_secret')
      .select('sealed')
      .where('webhook_id', '=', first.id)
      .executeTakeFirstOrThrow();
    expect(book.faultOf({ id: first.id, sealed_headers: secret.sealed })).toMatch(/belongs to another place/);
  });
});

describe('a book of headers', () => {
  it('opens each sealed text once', () => {
    let opened = 0;
    const book = createHeaderBook({
      ...sealer,
      open: (...place) => {
        opened++;
        return sealer.open(...place);
      },
    });
    const seal = (value: string) =>
      sealer.seal(JSON.stringify({ custom: { 'x-a': value }, basicAuth: 'Basic eA==' }), 'wh_1/headers');
    const [one, two] = [seal('1'), seal('2')];
    for (let turn = 0; turn < 3; turn++)
      expect(book.of({ id: 'wh_1', sealed_headers: one })).toEqual({ 'x-a': '1', authorization: 'Basic eA==' });
    expect(opened).toBe(1);
    expect(book.of({ id: 'wh_1', sealed_headers: two })).toMatchObject({ 'x-a': '2' });
    expect(book.of({ id: 'wh_2', sealed_headers: null })).toEqual({});
    expect(opened).toBe(2);
  });
});

async function dump(): Promise<string> {
  const { db } = scene.engine.services.database;
  const { rows: tables } = await sql<{ name: string }>`
    select quote_ident(table_schema) || '.' || quote_ident(table_name) as name from information_schema.tables
    where table_schema in ('fanfare', 'public') and table_type = 'BASE TABLE'
  `.execute(db);
  let text = '';
  for (const { name } of tables) {
    const { rows } = await sql<{ row: string }>`select t::text as row from ${sql.raw(name)} t`.execute(db);
    text += rows.map(({ row }) => row).join('\n');
  }
  return text;
}
