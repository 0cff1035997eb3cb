import { createHash } from 'node:crypto';
import { sql } from 'kysely';
import { describe, expect, it } from 'vitest';
import { pruneDeliveries } from '../../src/webhooks/prune.ts';
import { workOff } from './webhook-engine.ts';
import { useWebhookScene } from './webhook-scene.ts';

const scene = useWebhookScene();
const DAY_MS = 86_400_000;

const EVIDENCE = `{ deliveries(last: 1) { nodes { id attempts {
  requestHeaders requestBodyHash isReused dnsMs connectMs tlsMs firstByteMs durationMs remoteAddress statusCode responseHeaders responseBody
} } } }`;

interface AttemptNode {
  readonly number: number;
  readonly statusCode: number | null;
  readonly startedAt: string;
}

async function attemptsOf(id: string, filter: object = {}, page = 'first: 100'): Promise<AttemptNode[]> {
  const { webhook } = await scene.engine.run<{ webhook: { attempts: { nodes: AttemptNode[] } } }>(
    `query ($id: ID!, $filter: AttemptFilter) { webhook(id: $id) { attempts(filter: $filter, ${page}) { nodes { number statusCode startedAt } } } }`,
    { variables: { id, filter }, accountId: scene.accountId },
  );
  return webhook.attempts.nodes;
}

async function write(text: string): Promise<void> {
  await scene.engine.writeNote(text, scene.accountId);
  await scene.engine.stampedEvents(scene.accountId);
}

describe('an attempt that succeeds', () => {
  it('keeps what was sent, without secrets, and how long each step took', async () => {
    const { secret, received } = await scene.hook();
    await write('seen');
    await workOff(scene.engine.createWorker());
    const found = await scene.engine.run<{
      deliveries: { nodes: [{ id: string; attempts: [Record<string, unknown>] }] };
    }>(EVIDENCE, { accountId: scene.accountId });
    const { id, attempts } = found.deliveries.nodes[0];
    const [request] = received();
    expect(attempts).toEqual([
      {
        requestHeaders: expect.objectContaining({
          'webhook-id': id,
          'webhook-timestamp': request?.headers['webhook-timestamp'],
          'webhook-signature': 'v1,***',
          'fanfare-cursor': request?.headers['fanfare-cursor'],
          'content-type': 'application/json',
        }),
        requestBodyHash: createHash('sha256')
          .update(request?.body ?? '')
          .digest('hex'),
        isReused: expect.any(Boolean),
        dnsMs: null,
        connectMs: attempts[0].isReused ? null : expect.any(Number),
        tlsMs: null,
        firstByteMs: expect.any(Number),
        durationMs: expect.any(Number),
        remoteAddress: '127.0.0.1',
        statusCode: 200,
        responseHeaders: expect.any(Object),
        responseBody: expect.any(String),
      },
    ]);
    const { rows } = await sql<{
      row: string;
    }>`select a::text as row from fanfare.attempt a where a.delivery_id = ${id}`.execute(
      scene.engine.services.database.db,
    );
    expect(JSON.stringify(rows)).not.toContain(String(request?.headers['webhook-signature']).slice(3));
    expect(JSON.stringify(rows)).not.toContain(secret);
  });
});

describe('the attempts of a webhook', () => {
  it('are listed by outcome, status and time, in the order of their starts', async () => {
    const { id, path } = await scene.hook({ retry: { delays: [5, 5, 5] } });
    const other = await scene.hook();
    scene.receiver.script(path, { status: 500 }, { status: 404 }, { status: 500 }, {});
    await write('listed');
    const worker = scene.engine.createWorker();
    for (let attempt = 0; attempt < 4; attempt++) {
      await workOff(worker);
      await scene.engine.advanceClock(6_000);
    }
    const all = await attemptsOf(id);
    expect(all.map(({ statusCode }) => statusCode)).toEqual([500, 404, 500, 200]);
    expect(await attemptsOf(other.id)).toHaveLength(1);
    expect(await attemptsOf(id, {}, 'last: 1')).toEqual(all.slice(-1));
    expect(await attemptsOf(id, { failed: true })).toEqual(all.slice(0, 3));
    expect(await attemptsOf(id, { failed: false })).toEqual(all.slice(3));
    expect(await attemptsOf(id, { statusCode: 500 })).toEqual([all[0], all[2]]);
    expect(await attemptsOf(id, { statusCode: 200 })).toEqual(all.slice(3));
    expect(await attemptsOf(id, { statusCode: 500, failed: false })).toEqual([]);
    expect(await attemptsOf(id, { since: all[1]?.startedAt, until: all[3]?.startedAt })).toEqual(all.slice(1, 3));
  });

  it('are of no other account', async () => {
    const { id } = await scene.hook();
    await write('mine');
    await workOff(scene.engine.createWorker());
    expect(await attemptsOf(id)).toHaveLength(1);
    const { webhook } = await scene.engine.run<{ webhook: unknown }>(
      'query ($id: ID!) { webhook(id: $id) { attempts { nodes { number } } } }',
      { variables: { id }, accountId: await scene.engine.addAccount() },
    );
    expect(webhook).toBeNull();
  });
});

describe('deliveries', () => {
  it('are listed by the time of their birth', async () => {
    await scene.hook();
    await write('first');
    await scene.engine.advanceClock(60_000);
    await write('second');
    const births = async (filter: object) => {
      const { deliveries } = await scene.engine.run<{ deliveries: { nodes: { createdAt: string }[] } }>(
        'query ($filter: DeliveryFilter) { deliveries(filter: $filter) { nodes { createdAt } } }',
        { variables: { filter }, accountId: scene.accountId },
      );
      return deliveries.nodes.map(({ createdAt }) => createdAt);
    };
    const [first, second] = await births({});
    expect(await births({ since: second })).toEqual([second]);
    expect(await births({ until: second })).toEqual([first]);
    expect(await births({ since: first, until: second })).toEqual([first]);
  });
});

describe('a body', () => {
  const RETRY = 'mutation ($id: ID!) { deliveryRetry(id: $id) { __typename } }';
  const prune = () => pruneDeliveries(scene.engine.services.database, { retentionDays: 7 }, () => {});
  const bodies = async () =>
    (await scene.engine.deliveries({}, { accountId: scene.accountId })).map(({ status, body }) => [
      status,
      body === null ? 'gone' : 'there',
    ]);

  it('is deleted a day after all that were sent it have succeeded', async () => {
    await scene.hook();
    await write('short-lived');
    await workOff(scene.engine.createWorker());
    await scene.engine.advanceClock(DAY_MS - 60_000);
    await prune();
    expect(await bodies()).toEqual([['SUCCEEDED', 'there']]);
    await scene.engine.advanceClock(120_000);
    await prune();
    expect(await bodies()).toEqual([['SUCCEEDED', 'gone']]);
  });

  it('stays while one that shares it is open, or has failed', async () => {
    await scene.hook();
    const failing = await scene.hook({ retry: { delays: [] } });
    const waiting = await scene.hook({ retry: { delays: [600_000] } });
    for (const { path } of [failing, waiting]) scene.receiver.script(path, { status: 500 });
    await write('shared');
    await workOff(scene.engine.createWorker());
    const shared = [
      ['EXHAUSTED', 'there'],
      ['PENDING', 'there'],
      ['SUCCEEDED', 'there'],
    ];
    await scene.engine.advanceClock(3 * DAY_MS);
    await prune();
    expect((await bodies()).sort()).toEqual(shared);
  });

  it('that was deleted is rendered anew by deliveryRetry, under the same id', async () => {
    const { received } = await scene.hook();
    await write('twice');
    const worker = scene.engine.createWorker();
    await workOff(worker);
    await scene.engine.advanceClock(2 * DAY_MS);
    await prune();
    const [delivery] = await scene.engine.deliveries({}, { accountId: scene.accountId });
    expect(delivery?.body).toBeNull();
    await scene.engine.run(RETRY, { variables: { id: delivery?.id }, accountId: scene.accountId });
    await workOff(worker);
    await workOff(worker);
    expect(await bodies()).toEqual([['SUCCEEDED', 'there']]);
    expect(received().map(({ headers }) => headers['webhook-id'])).toEqual([delivery?.id, delivery?.id]);
    expect(received()[1]?.body.toString()).toBe(received()[0]?.body.toString());
  });
});

describe('partitions', () => {
  it('made later have what the tables have, and are found by their indexes', async () => {
    const { db } = scene.engine.services.database;
    const { rows } = await sql<{ columns: number; indexes: number }>`
      with made as (select fanfare.make_partitions((fanfare.now() at time zone 'UTC')::date + 20, 'attempt'))
      select (select count(*)::int from made) as made, 0 as columns, 0 as indexes`.execute(db);
    expect(rows).toHaveLength(1);
    const { rows: found } = await sql<{ name: string; columns: number; indexes: number }>`
      select c.relname as name,
             (select count(*)::int from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
             (select count(*)::int from pg_index i where i.indrelid = c.oid) as indexes
      from pg_class c where c.oid = 'fanfare.attempt'::regclass
         or c.oid in (select inhrelid from pg_inherits where inhparent = 'fanfare.attempt'::regclass)`.execute(db);
    expect(found.length).toBeGreaterThan(20);
    expect(new Set(found.map(({ columns, indexes }) => `${columns} columns, ${indexes} indexes`)).size).toBe(1);
  });
});
