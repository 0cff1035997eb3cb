import { describe, expect, it } from 'vitest';
import { payloadFault, syncEventTypes } from '../../src/outbox/catalog.ts';
import { emitOwn } from '../../src/outbox/emit-own.ts';
import type { EventRecord } from '../../src/outbox/read.ts';
import { type Claim, claimDeliveries } from '../../src/webhooks/claim.ts';
import type { Delivered } from '../../src/webhooks/deliver.ts';
import { webhookFailing } from '../../src/webhooks/events.ts';
import type { ClaimResult } from '../../src/webhooks/finish.ts';
import { createHealth } from '../../src/webhooks/health.ts';
import { finishAndTell } from '../../src/webhooks/notices.ts';
import { pruneDeliveries } from '../../src/webhooks/prune.ts';
import { CLAIM_LIMITS, failedAttempt } from '../support/claims.ts';
import { eventually } from '../support/eventually.ts';
import { noteWritten } from '../support/toy-domain.ts';
import { workOff } from './webhook-engine.ts';
import { useWebhookScene } from './webhook-scene.ts';

const DAY_MS = 86_400_000;
/** Each delivery is attempted once within the test. */
const NO_RETRY_SOON = { retry: { delays: [604_800] } };
const ONE_ATTEMPT = { retry: { delays: [] } };
const STATE = 'query ($id: ID!) { webhook(id: $id) { status disabledReason failures failingSince } }';
const RESUME = 'mutation ($id: ID!) { webhookResume(id: $id) { __typename } }';
const LIMITS = { ...CLAIM_LIMITS, webhookCap: 100 };

describe('a notice', () => {
  const scene = useWebhookScene();
  const { hook, start } = scene;

  async function write(count: number): Promise<void> {
    const author = { accountId: scene.accountId, actor: null, requestId: null, causedBy: null };
    await scene.engine.services.transact(author, async (tx) => {
      for (let n = 0; n < count; n++)
        await tx.emit(noteWritten, {
          subjectId: `note_${n}`,
          payload: { note: { noteId: `note_${n}`, text: `${n}` } },
        });
    });
    await scene.engine.stampedEvents(scene.accountId);
  }

  /** The account's events about webhooks and deliveries, in the order of the log; each must fit its schema. */
  async function told(): Promise<EventRecord[]> {
    const { catalog } = scene.engine.services;
    const events = await scene.engine.stampedEvents(scene.accountId);
    return events.filter(({ name, payload, payloadVersion, subjectType }) => {
      expect(payloadFault(catalog, { name, payload, payload_version: payloadVersion })).toBeUndefined();
      return subjectType === 'Webhook' || subjectType === 'Delivery';
    });
  }
  const names = async () => (await told()).map(({ name }) => name);

  const run = <Data>(source: string, variables: Readonly<Record<string, unknown>>) =>
    scene.engine.run<Data>(source, { variables, accountId: scene.accountId });
  const state = async (id: string) => (await run<{ webhook: object }>(STATE, { id })).webhook;
  const deliveries = () => scene.engine.deliveries({}, { accountId: scene.accountId });
  const advance = (ms: number) => scene.engine.advanceClock(ms);

  /** Three workers at once do what is due. */
  async function workTogether(): Promise<void> {
    const workers = [1, 2, 3].map(() => scene.engine.createWorker());
    await Promise.all(workers.map(workOff));
    await Promise.all(workers.map(workOff));
  }

  /** Claims, and what a worker would note of them if each failed. */
  async function failures(webhookId: string, statusCode = 500): Promise<Delivered[]> {
    const { database } = scene.engine.services;
    const claims = await claimDeliveries(database, LIMITS);
    const webhook = await database.db
      .selectFrom('fanfare.webhook')
      .selectAll()
      .where('id', '=', webhookId)
      .executeTakeFirstOrThrow();
    const receiver = statusCode === 410 ? ({ kind: 'gone' } as const) : ({ kind: 'fair' } as const);
    return claims.map((claim) => ({ result: exhausted(claim, statusCode), webhook, receiver }));
  }

  it('comes once when a webhook begins to fail, however many workers fail at once', async () => {
    const { id, path, received } = await hook({ ...NO_RETRY_SOON, maxInFlight: 30, description: 'the ledger' });
    scene.receiver.always(path, { status: 500 });
    await write(60);
    for (let n = 0; n < 3; n++) start(scene.engine.createWorker());
    await eventually(() => received().length >= 30);
    await eventually(async () => (await told()).length > 0);
    await advance(2_000);
    await eventually(() => received().length > 30);
    await advance(3_000);
    await eventually(() => received().length > 31);
    expect(await told()).toMatchObject([
      {
        name: 'webhook.failing',
        subjectType: 'Webhook',
        subjectId: id,
        subjectVersion: 1,
        actor: null,
        payload: {
          webhook: { webhookId: id, description: 'the ledger' },
          lastStatusCode: 500,
          lastErrorClass: 'HTTP_STATUS',
        },
      },
    ]);
    expect(JSON.stringify(await told())).not.toContain(path);
    expect(await state(id)).toMatchObject({ status: 'ACTIVE', failingSince: expect.any(String) });
  });

  it('comes once from many that note at once, and would come from each that reads before it writes (control)', async () => {
    const { id } = await hook(NO_RETRY_SOON);
    await write(40);
    const { database } = scene.engine.services;
    const noted = await failures(id);
    const batches = Array.from({ length: 8 }, (_, n) => noted.slice(n * 5, n * 5 + 5));
    await Promise.all(batches.map((batch) => createHealth(database).note(batch)));
    expect(await names()).toEqual(['webhook.failing']);

    const allHaveRead = Promise.withResolvers<void>();
    let readers = 0;
    const naive = async () => {
      const { alarm } = await database.db
        .selectFrom('fanfare.webhook')
        .select('alarm')
        .where('id', '=', id)
        .executeTakeFirstOrThrow();
      if (++readers === 3) allHaveRead.resolve();
      await allHaveRead.promise;
      if (alarm === 'ON') return;
      await database.transaction(async (tx) => {
        const payload = {
          webhook: { webhookId: id, description: '' },
          failures: 5,
          failingSince: new Date().toISOString(),
          lastStatusCode: null,
          lastErrorClass: null,
        };
        await emitOwn(tx, webhookFailing, [{ accountId: scene.accountId, subjectId: id, causedBy: null, payload }]);
        await tx.updateTable('fanfare.webhook').set({ alarm: 'ON' }).where('id', '=', id).execute();
      });
    };
    await run(RESUME, { id });
    await Promise.all([naive(), naive(), naive()]);
    expect(await names()).toHaveLength(1 + 3);
  });

  it('and the state that it tells of are written together or not at all', async () => {
    const { id } = await hook(NO_RETRY_SOON);
    await write(6);
    const { database, catalog } = scene.engine.services;
    const noted = await failures(id);
    const health = createHealth(database);
    await database.db.deleteFrom('fanfare.event_type').where('name', '=', 'webhook.failing').execute();
    try {
      await expect(health.note(noted)).rejects.toThrow('"webhook.failing" is not an event type');
      expect(await state(id)).toMatchObject({ failures: 0, failingSince: null });
    } finally {
      await syncEventTypes(database, catalog);
    }
    await health.note(noted);
    expect(await names()).toEqual(['webhook.failing']);
    expect(await state(id)).toMatchObject({ failures: 6 });
  });

  it('goes out while other receivers hang with all places that they may have', async () => {
    const hanging = await Promise.all([1, 2, 3].map(() => hook(NO_RETRY_SOON)));
    for (const { path } of hanging) scene.receiver.always(path, { kind: 'hang' });
    await write(20);
    start(scene.engine.createWorker({ maxInFlight: 8 }));
    await eventually(() => hanging.flatMap(({ received }) => received()).length >= 6);
    const failing = await hook({ ...NO_RETRY_SOON, maxInFlight: 1 });
    const notices = await hook({ eventTypes: ['WEBHOOK_FAILING'] });
    scene.receiver.always(failing.path, { status: 500 });
    await write(5);
    await eventually(async () => (await told()).length === 1 && notices.received().length === 1, { everyMs: 100 });
  });

  it('of recovery comes with the first success, once, and only if there was one of failing', async () => {
    const { id, path } = await hook(NO_RETRY_SOON);
    scene.receiver.script(path, ...Array.from({ length: 4 }, () => ({ status: 500 })));
    await write(20);
    await workTogether();
    expect(await names()).toEqual([]); // four in a row are not yet failing
    expect(await state(id)).toMatchObject({ failures: 0, failingSince: null });

    for (const _episode of [1, 2]) {
      scene.receiver.always(path, { status: 500 });
      await write(20);
      await workTogether();
      scene.receiver.always(path, {});
      await advance(120_000);
      await workTogether();
      await write(20);
      await workTogether();
    }
    const notices = await told();
    expect(notices.map(({ name, subjectVersion }) => [name, subjectVersion])).toEqual([
      ['webhook.failing', 1],
      ['webhook.recovered', 2],
      ['webhook.failing', 3],
      ['webhook.recovered', 4],
    ]);
    expect(notices[1]?.payload).toMatchObject({ failingSince: notices[0]?.payload.failingSince });
    expect(await state(id)).toMatchObject({ failures: 0, failingSince: null });
  });

  it('of the end comes once when many are answered 410, and is taken back by the first success after webhookResume', async () => {
    const { id, path } = await hook({ ...NO_RETRY_SOON, maxInFlight: 20 });
    scene.receiver.always(path, { status: 410 });
    await write(20);
    await workTogether();
    expect(await told()).toMatchObject([
      {
        name: 'webhook.disabled',
        subjectId: id,
        payload: { disabledReason: 'the receiver answered 410 Gone', lastStatusCode: 410 },
      },
    ]);
    expect(await state(id)).toMatchObject({ status: 'DISABLED', disabledReason: 'the receiver answered 410 Gone' });
    await run(RESUME, { id });
    expect(await names()).toEqual(['webhook.disabled']); // nobody knows yet
    scene.receiver.always(path, {});
    await write(3);
    await workTogether();
    expect(await told()).toMatchObject([{}, { name: 'webhook.recovered', payload: { failingSince: null } }]);
    await write(3);
    await workTogether();
    expect(await names()).toHaveLength(2);
  });

  it('of the end comes after five days of nothing but failures, once; what is open is parked', async () => {
    const { id, path } = await hook({ retry: { delays: [86_400], window: 1_209_600 } });
    scene.receiver.always(path, { status: 500 });
    await write(20);
    await workTogether();
    await advance(4.9 * DAY_MS);
    await workTogether();
    expect(await state(id)).toMatchObject({ status: 'ACTIVE' });
    expect(await names()).toEqual(['webhook.failing']);
    await advance(0.2 * DAY_MS);
    await workTogether();
    await advance(DAY_MS);
    await workTogether();
    expect(await told()).toMatchObject([
      { name: 'webhook.failing' },
      {
        name: 'webhook.disabled',
        payload: { disabledReason: 'for 5 days nothing came but failures', lastStatusCode: 500 },
      },
    ]);
    expect(await state(id)).toMatchObject({
      status: 'DISABLED',
      disabledReason: 'for 5 days nothing came but failures',
    });
    expect(new Set((await deliveries()).map(({ status }) => status))).toEqual(new Set(['PARKED']));

    await run(RESUME, { id });
    expect(await state(id)).toMatchObject({ status: 'ACTIVE', failingSince: null }); // five new days
    await write(8);
    await workTogether();
    expect(await state(id)).toMatchObject({ status: 'ACTIVE' });
    expect(await names()).toEqual(['webhook.failing', 'webhook.disabled', 'webhook.failing']);
  });

  it('of the end does not come where something succeeded within five days, or fewer than five failed', async () => {
    const now = await hook({ ...NO_RETRY_SOON, maxInFlight: 1 });
    const seldom = await hook(ONE_ATTEMPT);
    scene.receiver.always(seldom.path, { status: 500 });
    for (let day = 0; day < 4; day++) {
      scene.receiver.script(now.path, { status: 500 }, {});
      await write(1);
      await workTogether();
      await advance(2 * DAY_MS);
      await write(1);
      await workTogether();
      await advance(2 * DAY_MS);
    }
    expect(await state(now.id)).toMatchObject({ status: 'ACTIVE', failures: 0 });
    expect(await state(seldom.id)).toMatchObject({ status: 'DISABLED', failures: 5 });
  });

  it.each([{}, { ordering: 'PER_SUBJECT', onExhausted: 'BLOCK' }])(
    'of an exhausted delivery comes once for each time, with how it ended; none of a ping: %j',
    async (order) => {
      const { id, path } = await hook({ ...ONE_ATTEMPT, ...order });
      scene.receiver.always(path, { status: 404 });
      await run('mutation ($id: ID!) { webhookPing(id: $id) { __typename } }', { id });
      await write(3);
      await workTogether();
      const ended = (await deliveries()).filter(({ eventId }) => eventId !== null);
      const notices = (await told()).filter(({ name }) => name === 'delivery.exhausted');
      expect(notices.map(({ subjectId }) => subjectId).sort()).toEqual(ended.map((delivery) => delivery.id).sort());
      const [first] = ended;
      expect(notices.find(({ subjectId }) => subjectId === first?.id)).toMatchObject({
        subjectType: 'Delivery',
        causedBy: first?.eventId,
        related: expect.arrayContaining([id, first?.eventId]),
        payload: {
          delivery: {
            deliveryId: first?.id,
            webhookId: id,
            eventId: first?.eventId,
            eventName: 'note.written',
            attempts: 1,
          },
          lastStatusCode: 404,
          lastErrorClass: 'HTTP_STATUS',
        },
      });
      await run('mutation ($id: ID!) { deliveryRetry(id: $id) { __typename } }', { id: first?.id });
      await workTogether();
      const again = (await told()).filter(({ subjectId }) => subjectId === first?.id);
      expect(again.map(({ subjectVersion, payload }) => [subjectVersion, payload.delivery])).toMatchObject([
        [1, { attempts: 1 }],
        [2, { attempts: 2 }],
      ]);
    },
  );

  it('of an exhausted delivery comes only from a result that counts, however often it is written', async () => {
    const { id } = await hook(ONE_ATTEMPT);
    await write(10);
    const { database } = scene.engine.services;
    const results = (await failures(id)).map(({ result }) => result);
    const written = await Promise.all([1, 2, 3].map(() => finishAndTell(database, results)));
    expect(written.map(({ told: count }) => count).sort((a, b) => a - b)).toEqual([0, 0, 10]);
    expect(await finishAndTell(database, results)).toEqual({ finished: [], told: 0 });
    expect(await names()).toEqual(Array.from({ length: 10 }, () => 'delivery.exhausted'));
  });

  it('that does not reach its receiver either makes no further one', async () => {
    const { path, received } = await hook({
      ...ONE_ATTEMPT,
      eventTypes: [
        'note.written',
        'delivery.exhausted',
        'webhook.failing',
        'webhook.disabled',
        'webhook.recovered',
      ].map(toEnum),
    });
    scene.receiver.always(path, { status: 500 });
    await write(6);
    for (let round = 0; round < 12; round++) {
      await workTogether();
      await told(); // stamped, and so born
      await advance(120_000);
    }
    const counts = Object.groupBy(await names(), (name) => name);
    expect(counts['webhook.failing']).toHaveLength(1);
    expect(counts['delivery.exhausted']).toHaveLength(6);
    expect(received()).toHaveLength(6 + 6 + 1);
    expect((await deliveries()).every(({ status }) => status === 'EXHAUSTED')).toBe(true);
  });

  it('is asked for only by who may read webhooks', async () => {
    const scopes = ['events:read', 'webhooks:write', 'notes:read'];
    const refused = await scene.engine.fail(
      'mutation ($input: WebhookCreateInput!) { webhookCreate(input: $input) { __typename } }',
      { variables: { input: { url: `${scene.receiver.url}/`, eventTypes: ['WEBHOOK_FAILING'] } }, scopes },
    );
    expect(refused).toMatchObject({ code: 'FORBIDDEN', message: expect.stringContaining('webhooks:read') });
    const { id } = await hook(NO_RETRY_SOON);
    await write(5);
    await createHealth(scene.engine.services.database).note(await failures(id));
    expect(await names()).toEqual(['webhook.failing']);
    const source = '{ events(first: 100) { nodes { name } } eventTypes { name } }';
    const seen = await scene.engine.run<{ events: { nodes: { name: string }[] } }>(source, {
      scopes,
      accountId: scene.accountId,
    });
    expect(JSON.stringify(seen)).toContain('note.written');
    expect(JSON.stringify(seen)).not.toContain('webhook.failing');
  });

  it('leaves no trace of its delivery past retention', async () => {
    const { database } = scene.engine.services;
    const { path } = await hook({ ...ONE_ATTEMPT, eventTypes: ['NOTE_WRITTEN'] });
    scene.receiver.always(path, { status: 500 });
    await write(5);
    await workTogether();
    const versions = async () => {
      const query = database.db.selectFrom('fanfare.subject').select(['type', 'version']);
      const rows = await query.where('account_id', '=', scene.accountId).where('type', '<>', 'Note').execute();
      return rows.toSorted((a, b) => (a.type < b.type ? -1 : 1));
    };
    const deliveryVersions = Array.from({ length: 5 }, () => ({ type: 'Delivery', version: 1 }));
    await pruneDeliveries(database, { retentionDays: 30 }, () => {});
    expect(await versions()).toEqual([...deliveryVersions, { type: 'Webhook', version: 1 }]);
    await advance(35 * DAY_MS);
    await pruneDeliveries(database, { retentionDays: 30 }, () => {});
    expect(await versions()).toEqual([{ type: 'Webhook', version: 1 }]);
  });
});

function toEnum(name: string): string {
  return name.replaceAll('.', '_').toUpperCase();
}

function exhausted(claim: Claim, statusCode: number): ClaimResult {
  return { claim, status: 'exhausted', attempt: failedAttempt({ statusCode }) };
}
