import { sql } from 'kysely';
import { describe, expect, it } from 'vitest';
import { claimDeliveries } from '../../src/webhooks/claim.ts';
import { createHealth } from '../../src/webhooks/health.ts';
import { CLAIM_LIMITS, failedAttempt } from '../support/claims.ts';
import { eventually } from '../support/eventually.ts';
import { noteWritten } from '../support/toy-domain.ts';
import { textsOf, workOff } from './webhook-engine.ts';
import { useWebhookScene } from './webhook-scene.ts';

const NOTES = 'subscription { noteWritten { note { text } } }';
const HEALTH = 'query ($id: ID!) { webhook(id: $id) { circuit heldUntil failures maxInFlight ratePerSecond } }';
describe('a webhook', () => {
  const scene = useWebhookScene();
  const { hook, start } = scene;

  /** So many events, in one change. */
  async function write(count: number): Promise<string[]> {
    const texts = Array.from({ length: count }, (_, n) => `note ${n}`);
    const author = { accountId: scene.accountId, actor: null, requestId: null, causedBy: null };
    await scene.engine.services.transact(author, async (tx) => {
      for (const text of texts)
        await tx.emit(noteWritten, { subjectId: text, payload: { note: { noteId: text, text } } });
    });
    await scene.engine.stampedEvents(scene.accountId);
    return texts;
  }

  const health = async (id: string) =>
    (await scene.engine.run<{ webhook: object }>(HEALTH, { variables: { id }, accountId: scene.accountId })).webhook;
  const deliveries = () => scene.engine.deliveries({}, { accountId: scene.accountId });

  it('with a rate gets no more, from three workers, and nearly as much; what waits is no attempt', async () => {
    const perSecond = 40;
    const paced = await hook({ ratePerSecond: perSecond, maxInFlight: 100 });
    await write(100);
    for (let n = 0; n < 3; n++) start(scene.engine.createWorker());
    await eventually(() => paced.received().length === 100);
    const times = paced.received().map(({ receivedAt }) => receivedAt.getTime());
    const seconds = (Math.max(...times) - Math.min(...times)) / 1_000;
    // 16 were saved up; the way from the claim to the arrival is not always as long
    expect(seconds).toBeGreaterThan((100 - 16) / perSecond - 0.3);
    expect(seconds).toBeLessThan(100 / perSecond / 0.4);
    await eventually(async () => (await deliveries()).every(({ attemptCount }) => attemptCount === 1));
  });

  /** Three claim at once, until all is claimed. @returns how many more than the rate allows were claimed at most, in any time */
  async function claimTogether(perSecond: number): Promise<{ readonly excess: number; readonly perSecond: number }> {
    const claims: { readonly from: number; readonly to: number; readonly count: number }[] = [];
    let left = 100;
    const claimOn = async () => {
      while (left > 0) {
        const from = performance.now();
        const { length: count } = await claimDeliveries(scene.engine.services.database, CLAIM_LIMITS);
        left -= count;
        if (count > 0) claims.push({ from, to: performance.now(), count });
      }
    };
    await Promise.all([claimOn(), claimOn(), claimOn()]);
    const spans = claims.flatMap(({ from }) => claims.flatMap(({ to }) => (to > from ? [{ from, to }] : [])));
    const excesses = spans.map(({ from, to }) => {
      const within = claims.filter((each) => each.from >= from && each.to <= to);
      return within.reduce((sum, { count }) => sum + count, 0) - perSecond * ((to - from) / 1_000 + 0.4);
    });
    const seconds = (Math.max(...spans.map(({ to }) => to)) - Math.min(...spans.map(({ from }) => from))) / 1_000;
    return { excess: Math.max(...excesses), perSecond: 100 / seconds };
  }

  it('with a rate is never claimed faster, however many claim at once', async () => {
    await hook({ ratePerSecond: 50, maxInFlight: 100 });
    await write(100);
    const claimed = await claimTogether(50);
    expect(claimed.excess).toBeLessThan(0.001);
    expect(claimed.perSecond).toBeGreaterThan(50 * 0.6); // what a busy machine does not come to claim within 0.4 s is gone
  });

  it('with a rate would be claimed faster if what was taken were not counted (control)', async () => {
    const { db } = scene.engine.services.database;
    const { rows } = await sql<{ source: string }>`
      select pg_get_functiondef('fanfare.claim_deliveries'::regproc) as source
    `.execute(db);
    const source = rows[0]?.source ?? '';
    const naive = source.replace("if v_taken <> '{}' then", 'if false then');
    expect(naive).not.toBe(source);
    await sql.raw(naive).execute(db);
    try {
      await hook({ ratePerSecond: 50, maxInFlight: 100 });
      await write(100);
      expect((await claimTogether(50)).excess).toBeGreaterThan(1);
    } finally {
      await sql.raw(source).execute(db);
    }
  });

  it('with a slow rate gets one at a time', async () => {
    const { received } = await hook({ ratePerSecond: 0.1 });
    await write(3);
    const worker = scene.engine.createWorker();
    await workOff(worker);
    expect(received()).toHaveLength(1);
    await scene.engine.advanceClock(9_000);
    await workOff(worker);
    expect(received()).toHaveLength(1);
    await scene.engine.advanceClock(3_600_000); // what was not used is gone
    await workOff(worker);
    expect(received()).toHaveLength(2);
  });

  it.each([1, 20])('may have %s requests under way in all processes', async (maxInFlight) => {
    const { id } = await hook({ maxInFlight });
    await write(30);
    const { database } = scene.engine.services;
    const claims = await Promise.all([1, 2, 3].map(() => claimDeliveries(database, CLAIM_LIMITS)));
    expect(claims.flat()).toHaveLength(maxInFlight);
    expect(await health(id)).toMatchObject({ maxInFlight, ratePerSecond: null });
  });

  it('that is down is only tried, and has all that was not tried within a minute of its return, oldest first', async () => {
    const { id, path, received } = await hook({ retry: { delays: [604_800] }, maxInFlight: 1 });
    scene.receiver.always(path, { status: 500 });
    const texts = await write(120);
    const worker = scene.engine.createWorker();
    expect(await health(id)).toMatchObject({ circuit: 'CLOSED' });
    for (let minute = 0; minute < 60; minute++) {
      await workOff(worker);
      await scene.engine.advanceClock(60_000);
    }
    const tried = received().length;
    expect(tried).toBeGreaterThanOrEqual(60); // it is found soon after its return
    expect(tried).toBeLessThanOrEqual(70); // those until it was held, and one after each hold
    scene.receiver.always(path, {});
    await scene.engine.advanceClock(60_000);
    await workOff(worker);
    expect(textsOf(received())).toEqual(texts);
    expect(await health(id)).toMatchObject({ circuit: 'CLOSED', failures: 0, heldUntil: null });
  });

  it('that fails is held longer each time, and its concurrent failures count once', async () => {
    const { id, path } = await hook({ retry: { delays: [604_800] } });
    scene.receiver.always(path, { status: 500 });
    await write(30);
    const worker = scene.engine.createWorker();
    const holds: number[] = [];
    for (let round = 0; round < 8; round++) {
      await workOff(worker);
      const { held_until } = await scene.engine.services.database.db
        .selectFrom('fanfare.webhook')
        .select(sql<number>`round(extract(epoch from held_until - fanfare.now()))::int`.as('held_until'))
        .where('id', '=', id)
        .executeTakeFirstOrThrow();
      holds.push(held_until);
      await scene.engine.advanceClock((held_until + 0.1) * 1_000);
    }
    expect(holds).toEqual([1, 2, 4, 8, 16, 32, 60, 60]);
  });

  it('that fails now and then is not held', async () => {
    const { id, path, received } = await hook({ retry: { delays: [604_800] }, maxInFlight: 1 });
    const answers = Array.from({ length: 40 }, (_, n) => (n % 4 === 3 ? {} : { status: 500 }));
    scene.receiver.script(path, ...answers);
    await write(40);
    await workOff(scene.engine.createWorker());
    expect(received()).toHaveLength(40);
    expect(await health(id)).toMatchObject({ circuit: 'CLOSED', heldUntil: null });
  });

  it.each([
    [{ maxInFlight: -1 }, '"maxInFlight": expected 0 to 100, found -1'],
    [{ maxInFlight: 101 }, '"maxInFlight": expected 0 to 100, found 101'],
    [{ ratePerSecond: -1 }, '"ratePerSecond": expected 0, or 0.01 to 1000, found -1'],
    [{ ratePerSecond: 0.001 }, 'found 0.001'],
    [{ ratePerSecond: 1_001 }, 'found 1001'],
  ])('is refused %j', async (input, message) => {
    const variables = { input: { url: `${scene.receiver.url}/`, query: NOTES, ...input } };
    const refused = await scene.engine.fail(
      'mutation ($input: WebhookCreateInput!) { webhookCreate(input: $input) { __typename } }',
      { variables, accountId: scene.accountId },
    );
    expect(refused).toMatchObject({ code: 'BAD_INPUT', message: expect.stringContaining(message) });
  });

  it('loses its rate and its number of requests by 0', async () => {
    const { id } = await hook({ ratePerSecond: 33.333333333, maxInFlight: 3 });
    expect(await health(id)).toMatchObject({ ratePerSecond: 33.333333333, maxInFlight: 3 });
    await scene.engine.run('mutation ($input: WebhookUpdateInput!) { webhookUpdate(input: $input) { __typename } }', {
      variables: { input: { id, ratePerSecond: 0, maxInFlight: 0 } },
      accountId: scene.accountId,
    });
    expect(await health(id)).toMatchObject({ ratePerSecond: null, maxInFlight: null });
  });

  it('with any rate gets its first', async () => {
    const rates = Array.from({ length: 1_000 }, (_, n) => 0.01 + n * (n < 600 ? 0.01 : 1));
    const { rows } = await sql<{ rate: number; left: number }>`
      select rate, fanfare.rate_left(w, fanfare.now()) as left
      from unnest(${rates}::float8[]) as rate, lateral (
        select w.* from jsonb_populate_record(null::fanfare.webhook, jsonb_build_object('rate_limit', rate, 'rate_next_at', '-infinity')) w
      ) w
    `.execute(scene.engine.services.database.db);
    for (const { rate, left } of rows)
      expect({ rate, left }).toEqual({ rate, left: Math.max(1, Math.floor(rate * 0.4 + 0.001)) });
  });

  it('that fails one in ten of many at once is not held', async () => {
    const { id, path, received } = await hook({ retry: { delays: [604_800] }, maxInFlight: 50 });
    scene.receiver.script(path, ...Array.from({ length: 200 }, (_, n) => (n % 10 === 5 ? { status: 500 } : {})));
    await write(200);
    await workOff(scene.engine.createWorker());
    expect(received()).toHaveLength(200);
    expect(await health(id)).toMatchObject({ circuit: 'CLOSED', heldUntil: null });
  });

  it('that was held is tried by one, also where it had asked for the pause, whatever was under way then', async () => {
    const { id, path, received } = await hook({ retry: { delays: [604_800] } });
    scene.receiver.script(path, { status: 429, headers: { 'retry-after': '60' } });
    await write(30);
    const worker = scene.engine.createWorker();
    await worker.runOnce();
    await worker.settled();
    expect(received()).toHaveLength(8);
    await scene.engine.advanceClock(61_000);
    scene.receiver.script(path, { status: 500 });
    await workOff(worker);
    expect(received()).toHaveLength(9);
    expect(await health(id)).toMatchObject({ circuit: 'OPEN' });
    await scene.engine.advanceClock(61_000);
    await workOff(worker);
    expect(received()).toHaveLength(30);
    expect(await health(id)).toMatchObject({ circuit: 'CLOSED', failures: 0, heldUntil: null });
  });

  it('is not held anew for what had begun before the hold ended, however late it comes', async () => {
    const { id } = await hook();
    const { database } = scene.engine.services;
    await write(8);
    const claims = await claimDeliveries(database, CLAIM_LIMITS);
    const webhook = () =>
      database.db.selectFrom('fanfare.webhook').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
    const health = createHealth(database);
    const fail = async (at: number, durationMs: number, busy = false) => {
      const claim = claims[at] ?? expect.fail('no claim');
      const attempt = failedAttempt({ durationMs });
      const receiver = busy ? ({ kind: 'busy', forMs: undefined } as const) : ({ kind: 'fair' } as const);
      return health.note([{ result: { claim, status: 'exhausted', attempt }, webhook: await webhook(), receiver }]);
    };
    expect((await fail(0, 10, true)).held.size).toBe(1);
    await scene.engine.advanceClock(14_000);
    // begun together with the first, timed out one after the other
    for (let at = 1; at < 6; at++) expect((await fail(at, 15_000)).held.size).toBe(0);
    expect(await webhook()).toMatchObject({ holds: 1 });
    expect((await fail(6, 10)).held.size).toBe(1); // the control: begun after it
    expect(await webhook()).toMatchObject({ holds: 2 });
  });

  it('is not held for what its former URL has answered', async () => {
    const held = Promise.withResolvers<void>();
    const { id, path, received } = await hook({ maxInFlight: 1 });
    scene.receiver.script(path, { status: 429, headers: { 'retry-after': '3000' }, after: held.promise });
    await write(2);
    const worker = scene.engine.createWorker();
    await worker.runOnce();
    await eventually(() => received().length === 1);
    await scene.engine.run('mutation ($input: WebhookUpdateInput!) { webhookUpdate(input: $input) { __typename } }', {
      variables: { input: { id, url: `${scene.receiver.url}${path}-moved` } },
      accountId: scene.accountId,
    });
    held.resolve();
    await worker.settled();
    expect(await health(id)).toMatchObject({ circuit: 'CLOSED', heldUntil: null });
  });
});
