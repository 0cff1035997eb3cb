import { sql } from 'kysely';
import { Webhook as Verifier } from 'standardwebhooks';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_SCHEDULE } from '../../src/webhooks/schedule.ts';
import { openReceiver, type ReceivedRequest, type Receiver } from '../support/receiver.ts';
import { type Delivery, openWebhookEngine, textsOf, type WebhookEngine, workOff } from './webhook-engine.ts';

const NOTES = 'subscription { noteWritten { id cursor position note { noteId text } } }';

describe.each(['postgres', 'pglite'] as const)('a delivery on %s', (kind) => {
  let engine: WebhookEngine;
  let receiver: Receiver;
  let accountId: string;

  beforeAll(async () => {
    engine = await openWebhookEngine(kind);
    receiver = await openReceiver();
  });
  afterAll(async () => {
    await receiver?.close();
    await engine?.close();
  });
  beforeEach(async () => {
    accountId = await engine.addAccount();
  });

  /** A webhook of the test's own account, on a path of its own. */
  async function hook(input: Readonly<Record<string, unknown>> = {}) {
    const path = `/${accountId}/${Math.random()}`;
    const selection = 'eventTypes' in input ? {} : { query: NOTES };
    const made = await engine.createWebhook({ url: `${receiver.url}${path}`, ...selection, ...input }, { accountId });
    return { ...made, path, received: () => receiver.requests.filter((request) => request.path === path) };
  }

  async function write(...texts: string[]): Promise<void> {
    for (const text of texts) await engine.writeNote(text, accountId);
    await engine.stampedEvents(accountId);
  }

  const deliveries = (filter?: Readonly<Record<string, unknown>>) => engine.deliveries(filter, { accountId });
  const one = async (): Promise<Delivery> => {
    const [delivery] = await deliveries();
    if (delivery === undefined) throw new Error('there is no delivery');
    return delivery;
  };
  const run = <Data>(source: string, variables: Readonly<Record<string, unknown>> = {}) =>
    engine.run<Data>(source, { variables, accountId });

  it('sends what the document selects, signed, and records the attempt', async () => {
    const { secret, received } = await hook();
    receiver.always('*', { body: 'thanks' });
    await write('hello');
    expect(await one()).toMatchObject({ status: 'PENDING', attemptCount: 0, attempts: [] });
    await workOff(engine.createWorker());

    const [request] = received() as [ReceivedRequest];
    const delivery = await one();
    const { events } = await run<{ events: { nodes: [{ id: string; cursor: string; occurredAt: string }] } }>(
      '{ events { nodes { id cursor occurredAt position ... on NoteWritten { note { noteId text } } } } }',
    );
    const [{ occurredAt, ...event }] = events.nodes;
    expect(JSON.parse(request.body.toString())).toEqual({ type: 'note.written', timestamp: occurredAt, data: event });
    expect(request.headers).toMatchObject({
      'webhook-id': delivery.id,
      'fanfare-event-id': event.id,
      'fanfare-cursor': event.cursor,
      'content-type': 'application/json',
    });
    new Verifier(secret).verify(request.body, request.headers as Record<string, string>);
    expect(delivery).toMatchObject({
      status: 'SUCCEEDED',
      eventId: event.id,
      attemptCount: 1,
      body: request.body.toString(),
      nextAttemptAt: null,
      attempts: [{ number: 1, statusCode: 200, errorClass: null, responseBody: 'thanks', isTruncated: false }],
    });
  });

  it('stands for its default document when it is registered by event types', async () => {
    const { received } = await hook({ eventTypes: ['NOTE_WRITTEN'] });
    await write('typed');
    await workOff(engine.createWorker());
    const { data } = JSON.parse(received()[0]?.body.toString() ?? '');
    expect(data).toMatchObject({ position: '1', name: 'note.written', type: 'NOTE_WRITTEN', note: { text: 'typed' } });
    expect(data).not.toHaveProperty('currentNote');
  });

  it('follows the schedule with the same id and bytes and fresh timestamps, then is exhausted', async () => {
    const { path, secret, received } = await hook();
    receiver.always(path, { status: 500, body: 'x'.repeat(5_000) });
    await write('stubborn');
    const worker = engine.createWorker();
    await workOff(worker);
    await sql`update note set text = 'changed since' where account_id = ${accountId}`.execute(
      engine.services.database.db,
    );
    for (const delayMs of DEFAULT_SCHEDULE.delaysMs) {
      const before = received().length;
      const restMs = Math.min(delayMs, 60_000); // the clock goes on by itself, too
      await engine.advanceClock(delayMs - restMs);
      await workOff(worker);
      expect(received()).toHaveLength(before);
      await engine.advanceClock(restMs);
      await workOff(worker);
      expect(received()).toHaveLength(before + 1);
    }
    await engine.advanceClock(100 * 86_400_000);
    await workOff(worker);

    expect(received()).toHaveLength(10);
    const delivery = await one();
    for (const { body, headers } of received()) {
      expect(body).toEqual(received()[0]?.body);
      expect(headers['webhook-id']).toBe(delivery.id);
      new Verifier(secret).verify(body, headers as Record<string, string>);
    }
    expect(delivery).toMatchObject({ status: 'EXHAUSTED', attemptCount: 10, nextAttemptAt: null });
    expect(delivery.attempts[0]).toMatchObject({ statusCode: 500, errorClass: 'HTTP_STATUS', isTruncated: true });
    expect(delivery.attempts[0]?.responseBody).toHaveLength(4_096);
    expect(delivery.attempts.map(({ nextAttemptAt }) => nextAttemptAt === null)).toEqual([
      ...Array(9).fill(false),
      true,
    ]);
  });

  it('signs with the old secret too for 24 hours after a rotation', async () => {
    const { id, secret, received } = await hook();
    const { webhookSecretRotate } = await run<{ webhookSecretRotate: { secret: string } }>(
      'mutation ($id: ID!) { webhookSecretRotate(id: $id) { ... on WebhookSecretRotateSuccess { secret } } }',
      { id },
    );
    const worker = engine.createWorker();
    const verify = (key: string, request = received().at(-1)) =>
      new Verifier(key).verify(request?.body ?? '', request?.headers as Record<string, string>);
    await write('both');
    await workOff(worker);
    verify(secret);
    verify(webhookSecretRotate.secret);
    await engine.advanceClock(24 * 3_600_000);
    await write('new only');
    await workOff(worker);
    verify(webhookSecretRotate.secret);
    expect(() => verify(secret)).toThrow();
  });

  it('waits while its webhook is paused, then goes out in the order of the log', async () => {
    const { id, received } = await hook();
    const change = (name: string) =>
      run(
        `mutation ($id: ID!) { ${name}(id: $id) { ... on Node { id } __typename } }`.replace('... on Node { id } ', ''),
        { id },
      );
    await change('webhookPause');
    const texts = Array.from({ length: 20 }, (_, n) => `waiting ${n}`);
    await write(...texts);
    const worker = engine.createWorker({ webhookCap: 1 });
    await workOff(worker);
    expect(received()).toHaveLength(0);
    expect(await deliveries({ webhookId: id, statuses: ['PENDING'] })).toHaveLength(20);
    await change('webhookResume');
    await workOff(worker);
    expect(textsOf(received())).toEqual(texts);
  });

  it('disables the webhook of a receiver that answers 410, and collects and parks until it is resumed', async () => {
    const { id, path, received } = await hook();
    receiver.script(path, { status: 410 });
    await write('gone');
    const worker = engine.createWorker();
    await workOff(worker);
    const read = () =>
      run('query ($id: ID!) { webhook(id: $id) { status disabledReason } }', { id }).then((data) => data);
    expect(await read()).toEqual({
      webhook: { status: 'DISABLED', disabledReason: 'the receiver answered 410 Gone' },
    });
    expect(await one()).toMatchObject({ status: 'PARKED', attemptCount: 1 });
    await write('kept');
    await engine.advanceClock(600_000);
    await workOff(worker);
    expect(received()).toHaveLength(1);
    expect(await deliveries({ webhookId: id })).toMatchObject([{ status: 'PARKED' }, { status: 'PARKED' }]);
    await run('mutation ($id: ID!) { webhookResume(id: $id) { __typename } }', { id });
    await workOff(worker);
    expect(textsOf(received())).toEqual(['gone', 'gone', 'kept']);
    const succeeded = await deliveries({ webhookId: id, statuses: ['SUCCEEDED'] });
    const counts = succeeded.map(({ body, attemptCount }) => [JSON.parse(body ?? '{}').data.note.text, attemptCount]);
    expect(counts.toSorted()).toEqual([
      ['gone', 2],
      ['kept', 1],
    ]);
  });

  it('is never sent when its document gives errors, and can be retried', async () => {
    const { received } = await hook({ query: 'subscription { noteWritten { fragile note { text } } }' });
    await write('break');
    const worker = engine.createWorker();
    await workOff(worker);
    const failed = await one();
    expect(failed).toMatchObject({
      status: 'RENDER_FAILED',
      error: 'noteWritten.fragile: broken on purpose',
      attemptCount: 0,
    });
    expect(received()).toHaveLength(0);
    await sql`update fanfare.event set payload = jsonb_set(payload, '{note,text}', '"mended"') where account_id = ${accountId}`.execute(
      engine.services.database.db,
    );
    await run('mutation ($id: ID!) { deliveryRetry(id: $id) { __typename } }', { id: failed.id });
    await workOff(worker);
    expect(textsOf(received())).toEqual(['mended']);
  });

  it('is recorded with what its errors say, whatever that is, beside others', async () => {
    const { received } = await hook({ query: 'subscription { noteWritten { fragile note { text } } }' });
    await write('rant', 'calm');
    await workOff(engine.createWorker());
    expect(await deliveries({ statuses: ['RENDER_FAILED'] })).toMatchObject([
      { error: expect.stringMatching(/^noteWritten\.fragile: \ufffd😤+\ufffd?$/u) },
    ]);
    expect(await deliveries({ statuses: ['SUCCEEDED'] })).toHaveLength(1);
    expect(textsOf(received())).toEqual(['calm']);
  });

  it('is parked by a document that no longer validates, and released when it is repaired', async () => {
    const { id, received } = await hook();
    await sql`update fanfare.webhook set document = 'subscription { gone { id } }' where id = ${id}`.execute(
      engine.services.database.db,
    );
    await write('patient');
    const worker = engine.createWorker();
    await workOff(worker);
    expect(await one()).toMatchObject({ status: 'PARKED', attemptCount: 0 });
    const { webhook } = await run<{ webhook: { parkedReason: string } }>(
      'query ($id: ID!) { webhook(id: $id) { parkedReason } }',
      { id },
    );
    expect(webhook.parkedReason).toContain('gone');
    await run(
      'mutation ($input: WebhookUpdateInput!) { webhookUpdate(input: $input) { ... on WebhookUpdateSuccess { webhook { id } } } }',
      { input: { id, query: NOTES } },
    );
    await workOff(worker);
    expect(textsOf(received())).toEqual(['patient']);
  });

  it('is cancelled when its webhook no longer asks for the event, or is deleted', async () => {
    const narrowed = await hook();
    const deleted = await hook();
    await write('unwanted');
    await run(
      'mutation ($input: WebhookUpdateInput!) { webhookUpdate(input: $input) { ... on WebhookUpdateSuccess { webhook { id } } } }',
      { input: { id: narrowed.id, query: 'subscription { noteEdited { id } }' } },
    );
    // as a process that was killed leaves it
    const { db } = engine.services.database;
    await sql`insert into fanfare.turn values (${deleted.id}, 'killed', 'infinity')`.execute(db);
    await run('mutation ($id: ID!) { webhookDelete(id: $id) { __typename } }', { id: deleted.id });
    await workOff(engine.createWorker());
    const turns = await sql`select from fanfare.turn where webhook_id = ${deleted.id}`.execute(db);
    expect(turns.rows).toHaveLength(0);
    expect(await deliveries()).toMatchObject([{ status: 'CANCELLED' }, { status: 'CANCELLED' }]);
    expect([...narrowed.received(), ...deleted.received()]).toHaveLength(0);
    const { code } = await engine.fail('mutation ($id: ID!) { deliveryRetry(id: $id) { __typename } }', {
      variables: { id: (await deliveries({ webhookId: deleted.id }))[0]?.id },
      accountId,
    });
    expect(code).toBe('CONFLICT');
  });

  it('is cancelled with its webhook, however many there are: some at once, the others by a worker', async () => {
    const { id, received } = await hook();
    const { db } = engine.services.database;
    await sql`
      insert into fanfare.delivery (account_id, id, webhook_id, seq, position, event_id, next_at, born_at)
      select ${accountId}, fanfare.new_id('dlv', now()), ${id}, n, n, 'evt_' || n, now(), now() from generate_series(1, 2500) n
    `.execute(db);
    const countBy = async () => {
      const { rows } = await sql<{ status: string; open: number; done: number }>`
        select r.status, count(*) filter (where r.finished_at is null)::int as open, count(r.finished_at)::int as done
        from fanfare.delivery_record r where r.webhook_id = ${id} group by r.status
      `.execute(db);
      return rows;
    };
    expect(await countBy()).toEqual([{ status: 'PENDING', open: 2_500, done: 0 }]);
    await run('mutation ($id: ID!) { webhookDelete(id: $id) { __typename } }', { id });
    expect(await countBy()).toEqual([{ status: 'CANCELLED', open: 1_500, done: 1_000 }]);
    await workOff(engine.createWorker());
    expect(await countBy()).toEqual([{ status: 'CANCELLED', open: 0, done: 2_500 }]);
    expect(received()).toHaveLength(0);
    const left = await sql`select from fanfare.deleted_webhook`.execute(db);
    expect(left.rows).toHaveLength(0);
  });

  it('that was not attempted yet is rendered by what its webhook asks for then, and cancelled if it asks no more', async () => {
    const { id, received } = await hook({ query: 'subscription { events { id } }' });
    await run('mutation ($id: ID!) { webhookPause(id: $id) { __typename } }', { id });
    const { id: noteId } = await engine.writeNote('kept', accountId);
    await write('dropped');
    const query = `subscription ($ids: [ID!]) { events(filter: { subjects: $ids }) { ... on NoteWritten { note { text } } } }`;
    await run('mutation ($input: WebhookUpdateInput!) { webhookUpdate(input: $input) { __typename } }', {
      input: { id, query, variables: { ids: [noteId] } },
    });
    await run('mutation ($id: ID!) { webhookResume(id: $id) { __typename } }', { id });
    await workOff(engine.createWorker());
    expect(textsOf(received())).toEqual(['kept']);
    expect((await deliveries()).map(({ status }) => status).sort()).toEqual(['CANCELLED', 'SUCCEEDED']);
  });

  it('goes to no address that became forbidden after the registration', async () => {
    const { id } = await hook();
    await sql`update fanfare.webhook set url = 'https://inward.fanfare-test.com/' where id = ${id}`.execute(
      engine.services.database.db,
    );
    await write('inward');
    await workOff(engine.createWorker());
    expect(await one()).toMatchObject({
      status: 'PENDING',
      attempts: [{ errorClass: 'ADDRESS_REFUSED', statusCode: null }],
    });
  });

  it('shares one body with the webhooks that ask for the same under the same grants', async () => {
    const hooks = [await hook(), await hook(), await hook({ query: 'subscription { noteWritten { id } }' })];
    await write('shared');
    await workOff(engine.createWorker());
    const bodies = hooks.map(({ received }) => received()[0]?.body.toString());
    expect(bodies[0]).toBe(bodies[1]);
    const { rows } = await sql`
      select distinct b.key from fanfare.body b join fanfare.event e on e.seq = b.seq where e.account_id = ${accountId}
    `.execute(engine.services.database.db);
    expect(rows).toHaveLength(2);
  });

  it('by deliveryRetry of a finished one goes out again with the same bytes and a new schedule', async () => {
    const { path, received } = await hook();
    receiver.script(path, {}, { status: 500 }, {});
    await write('again');
    const worker = engine.createWorker();
    await workOff(worker);
    const { id } = await one();
    await run('mutation ($id: ID!) { deliveryRetry(id: $id) { __typename } }', { id });
    await workOff(worker);
    expect(await one()).toMatchObject({ status: 'PENDING', attemptCount: 2 });
    await engine.advanceClock(6_000);
    await workOff(worker);
    expect(await one()).toMatchObject({ status: 'SUCCEEDED', attemptCount: 3 });
    expect(new Set(received().map(({ body }) => body.toString())).size).toBe(1);
    expect(new Set(received().map(({ headers }) => headers['webhook-id']))).toEqual(new Set([id]));
  });

  it('of a ping is signed and attempted once', async () => {
    const { id, secret, path, received } = await hook();
    receiver.script(path, { status: 500 });
    const ping = () =>
      run<{ webhookPing: { delivery: { id: string } } }>(
        'mutation ($id: ID!) { webhookPing(id: $id) { ... on WebhookPingSuccess { delivery { id } } } }',
        { id },
      );
    const { webhookPing } = await ping();
    const worker = engine.createWorker();
    await workOff(worker);
    const [request] = received() as [ReceivedRequest];
    expect(JSON.parse(request.body.toString())).toMatchObject({ type: 'fanfare.ping', data: { webhookId: id } });
    expect(request.headers).not.toHaveProperty('fanfare-event-id');
    new Verifier(secret).verify(request.body, request.headers as Record<string, string>);
    expect(await one()).toMatchObject({ id: webhookPing.delivery.id, status: 'EXHAUSTED', event: null });
    await ping();
    await workOff(worker);
    expect(await deliveries({ statuses: ['SUCCEEDED'] })).toHaveLength(1);
  });

  it('is hidden from other accounts, and its body from keys that may not see the event', async () => {
    await hook();
    await write('private');
    await workOff(engine.createWorker());
    const { id } = await one();
    const read = 'query ($id: ID!) { delivery(id: $id) { body event { id } } node(id: $id) { id } }';
    expect(await engine.run(read, { variables: { id } })).toEqual({ delivery: null, node: null });
    const scopes = ['webhooks:read', 'events:read'];
    expect(await engine.run(read, { variables: { id }, accountId, scopes })).toEqual({
      delivery: { body: null, event: null },
      node: { id },
    });
  });
});
