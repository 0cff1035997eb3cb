import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createSequencer, type Sequencer } from '../../src/outbox/sequencer.ts';
import { newId } from '../../src/runtime/id.ts';
import { observeNothing } from '../../src/runtime/observe.ts';
import { eventually } from '../support/eventually.ts';
import { openReceiver, type Receiver } from '../support/receiver.ts';
import { openWebhookEngine, textsOf, type WebhookEngine, workOff } from './webhook-engine.ts';

const NOTES = 'subscription { noteWritten { id note { text } } }';

const CREATE = `mutation ($input: WebhookCreateInput!) { webhookCreate(input: $input) {
  __typename
  ... on WebhookCreateSuccess { webhook { id version url status eventTypes query variables scopes description metadata } secret }
  ... on CallbackRefused { code message }
  ... on DocumentInvalid { code errors { message line column } }
} }`;

const UPDATE = `mutation ($input: WebhookUpdateInput!) { webhookUpdate(input: $input) {
  __typename
  ... on WebhookUpdateSuccess { webhook { version url eventTypes query scopes } }
  ... on VersionConflict { currentVersion }
  ... on CallbackRefused { code message }
} }`;

describe.each(['postgres', 'pglite'] as const)('a webhook on %s', (kind) => {
  let engine: WebhookEngine;
  let receiver: Receiver;
  let accountId: string;
  let url: string;

  beforeAll(async () => {
    engine = await openWebhookEngine(kind);
    receiver = await openReceiver();
    url = `${receiver.url}/hook`;
  });
  afterAll(async () => {
    await receiver?.close();
    await engine?.close();
  });
  beforeEach(async () => {
    accountId = await engine.addAccount();
  });

  type Options = Parameters<WebhookEngine['run']>[1];
  const create = async (input: Readonly<Record<string, unknown>>, options: Options = {}) => {
    const data = await engine.run<{ webhookCreate: Record<string, unknown> }>(CREATE, {
      accountId,
      ...options,
      variables: { input },
    });
    return data.webhookCreate;
  };
  const failCreate = (input: Readonly<Record<string, unknown>>, options: Options = {}) =>
    engine.fail(CREATE, { accountId, ...options, variables: { input } });
  const update = async (input: Readonly<Record<string, unknown>>, options: Options = {}) => {
    const data = await engine.run<{ webhookUpdate: unknown }>(UPDATE, { accountId, ...options, variables: { input } });
    return data.webhookUpdate;
  };

  it('shows its secret once and has the fewest scopes that serve', async () => {
    const made = await create({ url, eventTypes: ['NOTE_WRITTEN'], description: 'mine', metadata: { a: [1] } });
    expect(made).toEqual({
      __typename: 'WebhookCreateSuccess',
      webhook: {
        id: expect.stringMatching(/^wh_[0-9a-f]{32}$/),
        version: 1,
        url,
        status: 'ACTIVE',
        eventTypes: ['NOTE_WRITTEN'],
        query: null,
        variables: {},
        scopes: ['events:read', 'notes:read'],
        description: 'mine',
        metadata: { a: [1] },
      },
      secret: expect.stringMatching(/^whsec_/),
    });
    const { id } = made.webhook as { id: string };
    const read = 'query ($id: ID!) { node(id: $id) { __typename id ... on Webhook { url } } webhook(id: $id) { id } }';
    expect(await engine.run(read, { variables: { id }, accountId })).toEqual({
      node: { __typename: 'Webhook', id, url },
      webhook: { id },
    });
    expect(await engine.run(read, { variables: { id } })).toEqual({ node: null, webhook: null });
  });

  it.each([
    ['subscription {', 1, 15, /Expected Name/],
    ['subscription {\n  noteWritten { nothing }\n}', 2, 17, /Cannot query field "nothing"/],
    ['{ head }', 1, 1, /exactly one operation/],
    ['subscription A { noteWritten { id } } query B { head }', 1, 39, /exactly one operation/],
    ['subscription { noteWritten { id } noteEdited { id } }', 1, 35, /one/i],
    ['subscription { noteWritten(after: "x") { id } }', null, null, /startAfter/],
    ['subscription ($f: EventFilter!) { events(filter: $f) { id } }', 1, 15, /\$f/],
  ])('refuses the document %s with its place', async (query, line, column, message) => {
    const refused = await create({ url, query });
    expect(refused).toMatchObject({ __typename: 'DocumentInvalid', code: 'DOCUMENT_INVALID' });
    expect((refused.errors as unknown[])[0]).toEqual({ message: expect.stringMatching(message), line, column });
  });

  it.each([
    'http://hooks.fanfare-test.com/',
    'https://10.0.0.1/',
    'https://inward.fanfare-test.com/',
    'https://unknown.fanfare-test.com/',
    'https://user@hooks.fanfare-test.com/',
  ])('refuses to call %s', async (bad) => {
    const refusal = { __typename: 'CallbackRefused', code: 'CALLBACK_REFUSED' };
    expect(await create({ url: bad, eventTypes: ['NOTE_WRITTEN'] })).toMatchObject(refusal);
    const { id } = await engine.createWebhook({ url, query: NOTES }, { accountId });
    expect(await update({ id, url: bad })).toMatchObject(refusal);
  });

  it('takes a public name, and either event types or a document', async () => {
    const good = { url: 'https://hooks.fanfare-test.com/in' };
    expect(await create({ ...good, query: NOTES })).toMatchObject({ __typename: 'WebhookCreateSuccess' });
    expect(await failCreate({ ...good })).toMatchObject({ code: 'BAD_INPUT' });
    expect(await failCreate({ ...good, eventTypes: [] })).toMatchObject({ code: 'BAD_INPUT' });
    expect(await failCreate({ ...good, eventTypes: ['NOTE_WRITTEN'], query: NOTES })).toMatchObject({
      code: 'BAD_INPUT',
    });
    expect(await failCreate({ ...good, query: NOTES, metadata: 'text' })).toMatchObject({ code: 'BAD_INPUT' });
  });

  it('gets no more than its creator may see', async () => {
    const poor = { scopes: ['webhooks:write', 'events:read'] };
    expect(await failCreate({ url, query: NOTES }, poor)).toMatchObject({ code: 'FORBIDDEN' });
    expect(await failCreate({ url, eventTypes: ['NOTE_WRITTEN'] }, poor)).toMatchObject({ code: 'FORBIDDEN' });
    const events = 'subscription { events { id ... on NoteWritten { currentNote { id } } } }';
    expect(await failCreate({ url, query: events }, poor)).toMatchObject({ code: 'FORBIDDEN' });
    expect(
      await failCreate({ url, query: 'subscription { events { id } }', scopes: ['notes:read'] }, poor),
    ).toMatchObject({
      code: 'FORBIDDEN',
    });
    expect(await failCreate({ url, query: NOTES, scopes: ['events:read'] })).toMatchObject({ code: 'FORBIDDEN' });
    expect(await failCreate({ url, query: NOTES, scopes: ['nonsense'] })).toMatchObject({ code: 'BAD_INPUT' });
    const blind = await create({ url, query: 'subscription { events { id } }' }, poor);
    expect(blind).toMatchObject({ webhook: { scopes: ['events:read'] } });
    await engine.writeNote('unseen', accountId);
    await engine.stampedEvents(accountId);
    expect(await engine.deliveries({}, { accountId })).toEqual([]);
  });

  it('keeps the narrowing of its creator, and can only be changed by who may see as much', async () => {
    const first = await engine.writeNote('first', accountId);
    const narrowing = [{ subjects: [first.id] }];
    const narrow = await engine.createWebhook(
      { url, query: NOTES, startAfter: await headBefore() },
      { accountId, narrowing },
    );
    await engine.writeNote('second', accountId);
    await engine.stampedEvents(accountId);
    await workOff(engine.createWorker());
    const sent = await engine.deliveries({ webhookId: narrow.id }, { accountId });
    expect(sent.map(({ body }) => JSON.parse(body ?? '').data.note.text)).toEqual(['first']);

    const wide = await engine.createWebhook({ url, query: NOTES }, { accountId });
    const moved = { id: wide.id, url: `${receiver.url}/elsewhere` };
    for (const lesser of [{ narrowing }, { scopes: ['webhooks:write', 'events:read'] }]) {
      expect(await engine.fail(UPDATE, { accountId, ...lesser, variables: { input: moved } })).toMatchObject({
        code: 'FORBIDDEN',
      });
      const rotate = 'mutation ($id: ID!) { webhookSecretRotate(id: $id) { __typename } }';
      expect(await engine.fail(rotate, { accountId, ...lesser, variables: { id: wide.id } })).toMatchObject({
        code: 'FORBIDDEN',
      });
    }
    expect(await update({ ...moved, id: narrow.id }, { narrowing })).toMatchObject({
      __typename: 'WebhookUpdateSuccess',
    });

    async function headBefore(): Promise<string> {
      await engine.stampedEvents(accountId);
      return engine.services.cursors.encode(accountId, { kind: 'position', position: 0 });
    }
  });

  it('changes under its expected version only, and does not exist for other accounts', async () => {
    const { id } = await engine.createWebhook({ url, query: NOTES }, { accountId });
    expect(await update({ id, expectedVersion: 1, eventTypes: ['NOTE_EDITED'] })).toEqual({
      __typename: 'WebhookUpdateSuccess',
      webhook: { version: 2, url, eventTypes: ['NOTE_EDITED'], query: null, scopes: ['events:read', 'notes:read'] },
    });
    expect(await update({ id, expectedVersion: 1, url })).toEqual({ __typename: 'VersionConflict', currentVersion: 2 });
    const foreign = [
      [UPDATE, { input: { id, url } }],
      ['mutation ($id: ID!) { webhookDelete(id: $id) { __typename } }', { id }],
      ['mutation ($id: ID!) { webhookPause(id: $id) { __typename } }', { id }],
      ['mutation ($id: ID!) { webhookPing(id: $id) { __typename } }', { id }],
      ['mutation ($id: ID!) { webhookSecretRotate(id: $id) { __typename } }', { id }],
    ] as const;
    for (const [source, variables] of foreign) {
      expect(await engine.fail(source, { variables })).toMatchObject({ code: 'NOT_FOUND' });
    }
  });

  it('is made once under an idempotency key, without its secret and without a second look at the URL', async () => {
    const input = { url: 'https://hooks.fanfare-test.com/once', query: NOTES };
    const options = { idempotencyKey: 'once' };
    const first = await create(input, options);
    const asked = engine.dns.questions.length;
    expect(await create(input, options)).toEqual({ ...first, secret: null });
    expect(engine.dns.questions).toHaveLength(asked);
    expect(await failCreate({ ...input, description: 'other' }, options)).toMatchObject({ code: 'CONFLICT' });
  });

  it('leaves its secret in no table', async () => {
    const { secret } = await engine.createWebhook({ url, query: NOTES }, { accountId, idempotencyKey: 'secret' });
    const { db } = engine.services.database;
    const { rows: tables } = await sql<{ name: string }>`
      select quote_ident(table_schema) || '.' || quote_ident(table_name) as name from information_schema.tables
      where table_schema in ('fanfare', 'public') and table_type = 'BASE TABLE'
    `.execute(db);
    let dump = '';
    for (const { name } of tables) {
      const { rows } = await sql<{ row: string }>`select t::text as row from ${sql.raw(name)} t`.execute(db);
      dump += rows.map(({ row }) => row).join('\n');
    }
    const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
    expect(dump).toContain(accountId);
    for (const form of [secret.slice('whsec_'.length), key.toString('hex'), key.toString('base64url')]) {
      expect(dump).not.toContain(form);
    }
  });

  it('begins behind startAfter, with what is stamped and what is not yet, each event once', async () => {
    const first = await engine.writeNote('before', accountId);
    await engine.stampedEvents(accountId);
    await engine.writeNote('stamped', accountId);
    await engine.stampedEvents(accountId);
    await engine.writeNote('captured', accountId);
    const { id } = await engine.createWebhook(
      { url: `${url}/${accountId}`, query: NOTES, startAfter: first.cursor },
      { accountId },
    );
    await engine.stampedEvents(accountId);
    await engine.writeNote('after', accountId);
    await engine.stampedEvents(accountId);
    await workOff(engine.createWorker({ webhookCap: 1 }));
    expect(textsOf(receiver.requests.filter(({ path }) => path.endsWith(accountId)))).toEqual([
      'stamped',
      'captured',
      'after',
    ]);
    expect(await engine.deliveries({ webhookId: id }, { accountId })).toHaveLength(3);
    expect(await failCreate({ url, query: NOTES, startAfter: 'rubbish' })).toMatchObject({ code: 'INVALID_CURSOR' });
  });

  it('looks far back in steps', async () => {
    for (let n = 0; n < 3; n++) await engine.writeNote(`old ${n}`, accountId);
    await engine.stampedEvents(accountId);
    const { db } = engine.services.database;
    const { id } = await engine.createWebhook({ url, query: NOTES }, { accountId });
    await sql`update fanfare.webhook set backfilled_to = 0 where id = ${id}`.execute(db);
    const steps: number[] = [];
    for (let step = -1; step !== 0; ) {
      const { rows } = await sql<{ step: number }>`select fanfare.backfill_webhooks(null, 2) as step`.execute(db);
      step = rows[0]?.step ?? 0;
      steps.push(step);
    }
    expect(steps).toEqual([2, 1, 0]);
    expect(await engine.deliveries({ webhookId: id }, { accountId })).toHaveLength(3);
  });

  it('is looked back for while it is disabled, too', async () => {
    await engine.writeNote('old', accountId);
    await engine.stampedEvents(accountId);
    const { db } = engine.services.database;
    const { id } = await engine.createWebhook({ url, query: NOTES }, { accountId });
    await sql`update fanfare.webhook set backfilled_to = 0, status = 'DISABLED' where id = ${id}`.execute(db);
    const look = async () => {
      const { rows } = await sql<{ step: number }>`select fanfare.backfill_webhooks(${id}, 10) as step`.execute(db);
      return rows[0]?.step;
    };
    expect(await look()).toBe(1);
    expect(await engine.deliveries({ webhookId: id }, { accountId })).toMatchObject([{ status: 'PARKED' }]);
  });

  it('tells only a key with "introspect" which name may have been meant', async () => {
    const query = 'subscription { noteWriten { id } }';
    const messageFor = async (scopes?: readonly string[]) => {
      const { errors } = await create({ url, query }, scopes === undefined ? {} : { scopes });
      return (errors as { message: string }[])[0]?.message;
    };
    expect(await messageFor()).toMatch(/Did you mean/);
    expect(await messageFor(['webhooks:write', 'events:read', 'notes:read'])).not.toMatch(/Did you mean/);
    const dry = await engine.run<{ webhookDryRun: { errors: { message: string }[] } }>(
      'mutation ($query: String!) { webhookDryRun(query: $query) { ... on DocumentInvalid { errors { message } } } }',
      { accountId, scopes: ['webhooks:write', 'events:read', 'notes:read'], variables: { query } },
    );
    expect(dry.webhookDryRun.errors[0]?.message).not.toMatch(/Did you mean/);
  });

  it.each([
    ['U+0000', 'a\0'],
    ['a lone surrogate', 'a\ud800'],
  ])('refuses what can not be stored: %s', async (_name, text) => {
    const bad = { code: 'BAD_INPUT', message: expect.stringMatching(/U\+0000 or half a surrogate pair/) };
    const query = 'subscription ($ids: [ID!]) { events(filter: { subjects: $ids }) { id } }';
    const good = { url, query };
    const { id } = await engine.createWebhook(good, { accountId });
    for (const part of [
      { description: text },
      { metadata: { deep: [{ [text]: 1 }] } },
      { metadata: { deep: [text] } },
      { variables: { ids: [text] } },
      { variables: { [text]: 1 } },
    ]) {
      expect(await failCreate({ ...good, ...part })).toMatchObject(bad);
      expect(await engine.fail(UPDATE, { accountId, variables: { input: { id, ...part } } })).toMatchObject(bad);
    }
    expect(await create({ ...good, url: `${url}/${text}` })).toMatchObject({ code: 'CALLBACK_REFUSED' });
    expect(await create({ ...good, description: 'ok 🎉', metadata: { '🎉': 1 } })).toMatchObject({
      __typename: 'WebhookCreateSuccess',
    });
    const read =
      'query ($id: ID!) { webhook(id: $id) { id } delivery(id: $id) { id } a: deliveries(filter: { webhookId: $id }) { nodes { id } } b: deliveries(filter: { eventId: $id }) { nodes { id } } }';
    expect(await engine.run(read, { accountId, variables: { id: text } })).toEqual({
      webhook: null,
      delivery: null,
      a: { nodes: [] },
      b: { nodes: [] },
    });
    for (const name of ['webhookPause', 'webhookDelete', 'webhookPing', 'deliveryRetry']) {
      const change = `mutation ($id: ID!) { ${name}(id: $id) { __typename } }`;
      expect(await engine.fail(change, { accountId, variables: { id: text } })).toMatchObject({ code: 'NOT_FOUND' });
    }
    const dry = 'mutation ($id: ID!) { webhookDryRun(eventTypes: [NOTE_WRITTEN], eventId: $id) { __typename } }';
    expect(await engine.fail(dry, { accountId, variables: { id: text } })).toMatchObject({ code: 'NOT_FOUND' });
  });

  it('is shown what it would be sent, without a request', async () => {
    const DRY = `mutation ($query: String!, $eventId: ID) { webhookDryRun(query: $query, eventId: $eventId) {
      __typename ... on WebhookDryRunSuccess { eventId body errors { message path } } ... on DocumentInvalid { errors { line } } } }`;
    const dry = async (query: string, eventId?: string) => {
      const data = await engine.run<{ webhookDryRun: Record<string, unknown> }>(DRY, {
        accountId,
        variables: { query, ...(eventId ? { eventId } : {}) },
      });
      return data.webhookDryRun;
    };
    expect(await dry(NOTES)).toMatchObject({ eventId: null, body: null, errors: [] });
    await engine.writeNote('break', accountId);
    await engine.writeNote('newest', accountId);
    const [broken, newest] = await engine.stampedEvents(accountId);
    const shown = await dry(NOTES);
    expect(shown).toMatchObject({ eventId: newest?.id, errors: [] });
    expect(JSON.parse(shown.body as string)).toMatchObject({
      type: 'note.written',
      data: { note: { text: 'newest' } },
    });
    expect(await dry('subscription { noteWritten { fragile } }', broken?.id)).toMatchObject({
      body: null,
      errors: [{ message: 'broken on purpose', path: 'noteWritten.fragile' }],
    });
    expect(await dry('subscription {')).toMatchObject({ __typename: 'DocumentInvalid' });
    expect(await engine.deliveries({}, { accountId })).toEqual([]);
  });
});

describe('a webhook that is made while events are stamped', () => {
  let engine: WebhookEngine;
  let accountId: string;
  let sequencer: Sequencer;

  beforeAll(async () => {
    engine = await openWebhookEngine('postgres');
  });
  afterAll(() => engine?.close());
  beforeEach(async () => {
    const { database, catalog } = engine.services;
    accountId = await engine.addAccount();
    const publish = async () => {};
    const owner = newId('proc');
    sequencer = createSequencer({
      database,
      catalog,
      publish,
      observe: observeNothing,
      owner,
      batchSize: 3,
      steal: true,
    });
    await sequencer.keepLeases();
    return () => sequencer.release();
  });

  const positions = async () => {
    const { rows } = await sql<{ positions: number[] }>`
      select array_agg(position order by position)::int[] as positions from fanfare.delivery
      where account_id = ${accountId} group by webhook_id
    `.execute(engine.services.database.db);
    return rows.map((row) => row.positions);
  };

  it('gets each event behind startAfter once, whatever the moment', async () => {
    const startAfter = engine.services.cursors.encode(accountId, { kind: 'position', position: 0 });
    let isWriting = true;
    const stamping = (async () => {
      for (let isLast = false, last = 'more'; !isLast || last === 'more'; ) {
        isLast = !isWriting; // before the look: what is written after an idle one is still to be stamped
        last = await sequencer.stampBatch();
        await sequencer.keepLeases();
      }
    })();
    const writing = (async () => {
      for (let n = 0; n < 150; n++) await engine.writeNote(`note ${n}`, accountId);
    })();
    for (let n = 0; n < 40; n++) {
      await engine.createWebhook({ url: 'http://127.0.0.1:1/', query: NOTES, startAfter }, { accountId });
    }
    await writing;
    isWriting = false;
    await stamping;
    while ((await sequencer.stampBatch()) === 'more'); // what was written while the last look found nothing
    const found = await positions();
    expect(found).toHaveLength(40);
    const all = Array.from({ length: 150 }, (_, at) => at + 1);
    for (const each of found) expect(each).toEqual(all);
  });

  /** Runs `during` while a stamp of the account's events has done its work and is not committed. */
  async function duringStamp(during: () => Promise<unknown>): Promise<unknown> {
    const { database } = engine.services;
    const stamped = Promise.withResolvers<void>();
    const commit = Promise.withResolvers<void>();
    const stamping = database.transaction(async (tx) => {
      await sql`
        select fanfare.stamp(array_agg(s.id), array_agg(s.generation), '{}', '{}', '{}', 100)
        from fanfare.shard s join fanfare.account a on a.shard = s.id where a.id = ${accountId}
      `.execute(tx);
      stamped.resolve();
      await commit.promise;
    });
    await stamped.promise;
    const outcome = during();
    await Promise.race([outcome, untilBlocked()]);
    commit.resolve();
    await stamping;
    return outcome;
  }

  async function untilBlocked(): Promise<void> {
    await eventually(async () => {
      const { rows } = await sql`
        select pid from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0
      `.execute(engine.services.database.db);
      return rows.length > 0;
    });
  }

  it('waits for the stamp under way, where one made without the lock would miss its events', async () => {
    const { db } = engine.services.database;
    await engine.writeNote('in between', accountId);
    await duringStamp(() =>
      sql`
        insert into fanfare.webhook (id, account_id, url, description, metadata, document, variables, scopes, narrowing, live_after, backfilled_to)
        values (${newId('wh')}, ${accountId}, 'http://127.0.0.1:1/', '', '{}', ${NOTES}, '{}', '{events:read,notes:read}', '[]', 0, 0)
      `.execute(db),
    );
    expect(await positions()).toEqual([]);

    await engine.writeNote('in between too', accountId);
    const startAfter = engine.services.cursors.encode(accountId, { kind: 'position', position: 0 });
    await duringStamp(() =>
      engine.createWebhook({ url: 'http://127.0.0.1:1/', query: NOTES, startAfter }, { accountId }),
    );
    expect(await positions()).toEqual([[2], [1, 2]]);
  });
});
