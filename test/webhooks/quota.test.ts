import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { newId } from '../../src/runtime/id.ts';
import { originOf } from '../../src/webhooks/origin.ts';
import { requireRoomFor } from '../../src/webhooks/quota.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';

const QUOTA = { perAccount: 5, perOrigin: 3 };
const CREATE = `mutation ($input: WebhookCreateInput!) { webhookCreate(input: $input) {
  __typename ... on WebhookCreateSuccess { webhook { id } } ... on Refusal { message } } }`;
const UPDATE = `mutation ($input: WebhookUpdateInput!) { webhookUpdate(input: $input) {
  __typename ... on Refusal { message } } }`;
const DELETE = 'mutation ($id: ID!) { webhookDelete(id: $id) { __typename } }';
const FULL = 'the account has 5 webhooks, the most there may be; delete one';
const FULL_AT = (origin: string) =>
  `the account has 3 webhooks at ${origin}, the most there may be; delete one, or let one webhook ask for more`;

describe.each(['postgres', 'pglite'] as const)('the webhooks of an account on %s', (kind) => {
  let engine: WebhookEngine;
  let accountId: string;
  beforeAll(async () => {
    engine = await openWebhookEngine(kind, { quota: QUOTA });
  });
  afterAll(() => engine?.close());
  beforeEach(async () => {
    accountId = await engine.addAccount();
  });

  const inputOf = (url: string) => ({ url, eventTypes: ['NOTE_WRITTEN'] });
  const create = (url: string, owner = accountId) => engine.createWebhook(inputOf(url), { accountId: owner });
  const refused = (url: string) => engine.fail(CREATE, { accountId, variables: { input: inputOf(url) } });
  const failUpdate = (id: string, url: string) =>
    engine.fail(UPDATE, { accountId, variables: { input: { id, url, headers: {} } } });
  const update = (id: string, url: string) => engine.run(UPDATE, { accountId, variables: { input: { id, url } } });
  const count = async () => {
    const { rows } = await sql<{ count: number }>`
      select count(*)::int as count from fanfare.webhook w where w.account_id = ${accountId}
    `.execute(engine.services.database.db);
    return rows[0]?.count;
  };

  it('are as many as WEBHOOKS_PER_ACCOUNT; a deleted one makes room, and another account has its own', async () => {
    const first = await create('http://127.0.0.1:4001/');
    for (let port = 4002; port <= 4005; port++) await create(`http://127.0.0.1:${port}/`);
    expect(await refused('http://127.0.0.1:4006/')).toMatchObject({ code: 'CONFLICT', message: FULL });
    await create('http://127.0.0.1:4006/', await engine.addAccount());
    await engine.run(DELETE, { accountId, variables: { id: first.id } });
    await create('http://127.0.0.1:4006/');
    expect(await count()).toBe(5);
  });

  it('are as many at one origin as WEBHOOKS_PER_ORIGIN, however it is spelt', async () => {
    for (const url of ['http://127.0.0.1:4001/a', 'http://127.1:4001/b', 'http://2130706433:4001/c']) await create(url);
    const full = { code: 'CONFLICT', message: FULL_AT('http://127.0.0.1:4001') };
    expect(await refused('http://0x7f.1:4001/d')).toMatchObject(full);
    const other = await create('http://127.0.0.1:4002/');
    expect(await failUpdate(other.id, 'http://127.1:4001/d')).toMatchObject(full);
    expect(await count()).toBe(4);
  });

  it('may be more at an origin where they are already: only what comes there is counted', async () => {
    const [one] = [await create('http://127.0.0.1:4001/a'), await create('http://127.0.0.1:4001/b')];
    await create('http://127.0.0.1:4001/c');
    await update(one.id, 'http://127.0.0.1:4001/d');
    await update(one.id, 'http://127.0.0.1:4002/');
    await create('http://127.0.0.1:4001/a');
    expect(await failUpdate(one.id, 'http://127.0.0.1:4001/a')).toMatchObject({ code: 'CONFLICT' });
  });

  it('are never more, however many are made at once', async () => {
    await create('http://127.0.0.1:4001/');
    const make = (at: number) =>
      engine.run(CREATE, { accountId, variables: { input: inputOf(`http://127.0.0.1:${5000 + (at % 2)}/${at}`) } });
    const made = await Promise.allSettled(Array.from({ length: 10 }, (_, at) => make(at)));
    expect(made.filter(({ status }) => status === 'fulfilled')).toHaveLength(4);
    expect(await count()).toBe(5);
  });

  it('are never more at one origin, however many are made or moved there at once', async () => {
    const others = [await create('http://127.0.0.1:4001/'), await create('http://127.0.0.1:4002/')];
    const there = (at: number) => `http://127.0.0.1:5000/${at}`;
    const made = [1, 2, 3].map((at) => engine.run(CREATE, { accountId, variables: { input: inputOf(there(at)) } }));
    const moved = others.map(({ id }, at) => update(id, there(10 + at)));
    const settled = await Promise.allSettled([...made, ...moved]);
    expect(settled.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    const { rows } = await sql<{ url: string }>`
      select w.url from fanfare.webhook w where w.account_id = ${accountId}
    `.execute(engine.services.database.db);
    expect(rows.filter(({ url }) => url.startsWith('http://127.0.0.1:5000/'))).toHaveLength(3);
  });

  // the other backend has one connection, and so no two at once
  if (kind === 'postgres')
    it('would be more if the head were not locked (control)', async () => {
      const { id: model } = await create('http://127.0.0.1:4001/');
      const author = { accountId, actor: null, requestId: null, causedBy: null };
      let looked = 0;
      let allHaveLooked = () => {};
      const all = new Promise<void>((resolve) => {
        allHaveLooked = resolve;
      });
      const make = (at: number) =>
        engine.services.transact(author, async (tx) => {
          await requireRoomFor(tx, `http://127.0.0.1:${5000 + at}/`, { perAccount: 2, perOrigin: 2 });
          looked += 1;
          if (looked === 3) allHaveLooked();
          await all;
          await sql`
          insert into fanfare.webhook select (jsonb_populate_record(w, jsonb_build_object('id', ${newId('wh')}::text))).*
          from fanfare.webhook w where w.account_id = ${tx.accountId} and w.id = ${model}
        `.execute(tx.db);
        });
      await Promise.all([make(1), make(2), make(3)]);
      expect(await count()).toBe(4);
    });
});

describe('the origin of a URL', () => {
  it.each([
    ['https://Hooks.example.com/a', 'https://hooks.example.com'],
    ['https://hooks.example.com.:443/b?c', 'https://hooks.example.com'],
    ['https://hooks.example.com.:8443/', 'https://hooks.example.com:8443'],
    ['http://hooks.example.com/', 'http://hooks.example.com'],
    ['https://münchen.example.com', 'https://xn--mnchen-3ya.example.com'],
    ['https://[2001:DB8::1]:444/', 'https://[2001:db8::1]:444'],
    ['https://0x7f.1/', 'https://127.0.0.1'],
    ['nonsense', 'nonsense'],
  ])('%s is %s', (url, origin) => {
    expect(originOf(url)).toBe(origin);
  });
});
