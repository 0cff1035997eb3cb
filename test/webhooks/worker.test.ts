import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { sql } from 'kysely';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it } from 'vitest';
import { prune } from '../../src/outbox/prune.ts';
import { type Clock, systemClock } from '../../src/runtime/clock.ts';
import type { Sender } from '../../src/webhooks/attempt.ts';
import { claimDeliveries } from '../../src/webhooks/claim.ts';
import { type ClaimResult, finishDeliveries } from '../../src/webhooks/finish.ts';
import { pruneDeliveries } from '../../src/webhooks/prune.ts';
import { createRecorder } from '../../src/webhooks/recorder.ts';
import type { WebhookWorker } from '../../src/webhooks/worker.ts';
import { CLAIM_LIMITS, failedAttempt } from '../support/claims.ts';
import { countReads } from '../support/count-reads.ts';
import { eventually } from '../support/eventually.ts';
import { openReceiver, type Receiver } from '../support/receiver.ts';
import { dawdling } from '../support/toy-troubles.ts';
import { openWebhookEngine, sealer, textsOf, type WebhookEngine, workOff } from './webhook-engine.ts';

const NOTES = 'subscription { noteWritten { id note { text } } }';

describe('workers', () => {
  let engine: WebhookEngine;
  let receiver: Receiver;
  /** Waits longer than any test. */
  let patient: Sender;
  let accountId: string;
  const running = new Set<() => Promise<unknown>>();

  beforeAll(async () => {
    engine = await openWebhookEngine('postgres');
    receiver = await openReceiver();
    patient = engine.createSender({ deadlineMs: 60_000 });
  });
  afterAll(async () => {
    await receiver?.close();
    await patient?.close();
    await engine?.close();
  });
  beforeEach(async () => {
    accountId = await engine.addAccount();
  });
  afterEach(async () => {
    for (const stop of running) await stop();
    running.clear();
    // what a test leaves open is not the next one's affair
    await sql`delete from fanfare.delivery`.execute(engine.services.database.db);
  });

  async function hook(path: string, selection: Readonly<Record<string, unknown>> = {}, owner = accountId) {
    const input = { url: `${receiver.url}${path}`, query: NOTES, ...selection };
    const { id } = await engine.createWebhook(input, { accountId: owner });
    return { id, received: () => receiver.requests.filter((request) => request.path === path) };
  }

  async function write(count: number): Promise<void> {
    for (let n = 0; n < count; n++) await engine.writeNote(`note ${n}`, accountId);
    await engine.stampedEvents(accountId);
  }

  function start(worker: WebhookWorker): () => Promise<void> {
    const ending = new AbortController();
    const ended = worker.run(ending.signal);
    const stop = () => {
      ending.abort();
      return ended;
    };
    running.add(stop);
    return stop;
  }

  const deliveries = (filter = {}) => engine.deliveries(filter, { accountId });

  it('share the work, and none gets what another has', async () => {
    const { received } = await hook('/shared');
    await write(60);
    for (let n = 0; n < 3; n++) start(engine.createWorker({ pollMs: 10 }));
    await eventually(async () => (await deliveries({ statuses: ['SUCCEEDED'] })).length === 60);
    expect(received()).toHaveLength(60);
    expect(new Set(received().map(({ headers }) => headers['webhook-id'])).size).toBe(60);
  });

  it('claim no more of a webhook than its cap, however many claim at once', async () => {
    await hook('/capped');
    await write(40);
    const { database } = engine.services;
    const rounds = await Promise.all(Array.from({ length: 8 }, () => claimDeliveries(database, CLAIM_LIMITS)));
    const claims = rounds.flat();
    expect(new Set(claims.map(({ id }) => id)).size).toBe(claims.length);
    expect(claims).toHaveLength(8);
    expect(claims.map(({ position }) => position).sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(await claimDeliveries(database, CLAIM_LIMITS)).toEqual([]);
  });

  it('claim of the named webhooks alone, if they name some', async () => {
    const { id } = await hook('/named');
    await hook('/other');
    await write(2);
    const { database } = engine.services;
    expect(await claimDeliveries(database, { ...CLAIM_LIMITS, only: [] })).toEqual([]);
    const named = await claimDeliveries(database, { ...CLAIM_LIMITS, only: [id] });
    expect(named.map(({ webhookId }) => webhookId)).toEqual([id, id]);
    expect(await claimDeliveries(database, CLAIM_LIMITS)).toHaveLength(2);
  });

  it('can not finish what another has claimed since', async () => {
    await hook('/stale');
    await write(1);
    const { database } = engine.services;
    const [stale] = await claimDeliveries(database, { ...CLAIM_LIMITS, leaseMs: 0 });
    const [fresh] = await claimDeliveries(database, CLAIM_LIMITS);
    if (stale === undefined || fresh === undefined) throw new Error('expected two claims');
    expect(fresh).toEqual({ ...stale, generation: stale.generation + 1 });
    const ended = { status: 'cancelled', error: 'test' } as const;
    // the control: known by its id alone, it would be the stale one's to finish
    const naive = database.transaction(async (tx) => {
      const { numDeletedRows } = await tx.deleteFrom('fanfare.delivery').where('id', '=', stale.id).executeTakeFirst();
      throw new Error(`finished ${numDeletedRows}, rolled back`);
    });
    await expect(naive).rejects.toThrow('finished 1, rolled back');
    expect(await finishDeliveries(database, [{ claim: stale, ...ended }])).toEqual([]);
    expect(await deliveries({ statuses: ['SENDING'] })).toHaveLength(1);
    expect(await finishDeliveries(database, [{ claim: fresh, ...ended }])).toEqual([{ id: fresh.id, nextAt: null }]);
    expect(await deliveries({ statuses: ['CANCELLED'] })).toHaveLength(1);
  });

  const failedOnce = (claim: ClaimResult['claim']): ClaimResult => ({
    claim,
    status: 'rescheduled',
    delayMs: 0,
    attempt: failedAttempt(),
  });

  async function claimOne(): Promise<ClaimResult['claim']> {
    const [claim] = await claimDeliveries(engine.services.database, CLAIM_LIMITS);
    if (claim === undefined) throw new Error('expected a claim');
    return claim;
  }

  it('record a result once, however often it is written', async () => {
    await hook('/twice');
    await write(1);
    const { database } = engine.services;
    const result = failedOnce(await claimOne());
    expect(await finishDeliveries(database, [result])).toHaveLength(1);
    expect(await finishDeliveries(database, [result])).toEqual([]);
    expect(await finishDeliveries(database, [result])).toEqual([]);
    const { step, attempts } = await claimOne();
    expect({ step, attempts }).toEqual({ step: 1, attempts: 1 });
    expect((await deliveries())[0]?.attempts).toHaveLength(1);
  });

  it('record a result once when the health of its webhook can not be noted', async () => {
    const { id } = await hook('/unnoted');
    await write(1);
    const { database, clock } = engine.services;
    await sql`alter table fanfare.webhook add constraint sound check (id <> ${sql.lit(id)} or failures = 0)`.execute(
      database.db,
    );
    const names: unknown[] = [];
    const observe = ({ name }: { readonly name: string }) => void names.push(name);
    const recorder = createRecorder({ database, clock, observe, random: () => 0, close: (claim) => claim });
    const query = database.db.selectFrom('fanfare.webhook').selectAll().where('id', '=', id);
    const webhook = await query.executeTakeFirstOrThrow();
    await recorder.record({ result: failedOnce(await claimOne()), webhook, receiver: { kind: 'fair' } });
    await sql`alter table fanfare.webhook drop constraint sound`.execute(database.db);
    expect(names).toEqual(['webhook.health_failed', 'delivery.attempted']);
    expect((await deliveries())[0]?.attempts).toHaveLength(1);
  });

  it('can not finish a delivery that was reopened since, and claimed as often', async () => {
    await hook('/reopened');
    await write(1);
    const { database } = engine.services;
    const stale = await claimOne();
    const ended = { status: 'cancelled', error: 'test' } as const;
    await finishDeliveries(database, [{ claim: stale, ...ended }]);
    await engine.run('mutation ($id: ID!) { deliveryRetry(id: $id) { __typename } }', {
      variables: { id: stale.id },
      accountId,
    });
    const fresh = await claimOne();
    expect(fresh.generation).toBe(stale.generation + 1);
    expect(await finishDeliveries(database, [{ claim: stale, ...ended }])).toEqual([]);
    expect(await finishDeliveries(database, [{ claim: fresh, ...ended }])).toHaveLength(1);
  });

  it('send to others while the document of one is slow, and to that one when it is rendered', async () => {
    const release = Promise.withResolvers<void>();
    dawdling.until = release.promise;
    const slow = await hook('/slow', { query: 'subscription { noteWritten { slow note { text } } }' });
    await engine.writeNote('dawdle', accountId);
    const other = await engine.addAccount();
    const quick = await hook('/quick', {}, other);
    await engine.writeNote('quick', other);
    await engine.stampedEvents(other);
    start(engine.createWorker({ pollMs: 10 }));
    await eventually(() => quick.received().length === 1);
    await engine.writeNote('quick again', other);
    await engine.stampedEvents(other);
    await eventually(() => quick.received().length === 2);
    expect(slow.received()).toHaveLength(0);
    release.resolve();
    await eventually(() => slow.received().length === 1);
  });

  it('hand back at once what is ready too late', async () => {
    const { received } = await hook('/late');
    await write(1);
    const worker = engine.createWorker({ holdMs: 30_000, attemptMs: 30_001 });
    await worker.runOnce();
    await worker.settled();
    expect(received()).toHaveLength(0);
    expect(await deliveries()).toMatchObject([{ status: 'PENDING', attemptCount: 0 }]);
    // the control: with time left it is sent
    start(engine.createWorker({ pollMs: 20 }));
    await eventually(() => received().length === 1);
  });

  it('park the one webhook whose rendering breaks, and send to the others of its batch', async () => {
    const broken = await hook('/broken', { query: 'subscription { noteWritten { unprintable note { text } } }' });
    const whole = await hook('/whole');
    await engine.writeNote('explode', accountId);
    await engine.stampedEvents(accountId);
    await workOff(engine.createWorker());
    expect(textsOf(whole.received())).toEqual(['explode']);
    expect(await deliveries({ webhookId: broken.id })).toMatchObject([{ status: 'PARKED', attemptCount: 0 }]);
    const { webhook } = await engine.run<{ webhook: { parkedReason: string } }>(
      'query ($id: ID!) { webhook(id: $id) { parkedReason } }',
      { variables: { id: broken.id }, accountId },
    );
    expect(webhook.parkedReason).toMatch(/internal error/);
    expect(engine.seen).toContainEqual(
      expect.objectContaining({ name: 'delivery.render_broken', webhook_id: broken.id }),
    );
  });

  it('show an attempt that could not be signed', async () => {
    const { id, received } = await hook('/unsigned');
    await write(1);
    const sealed = sealer.seal('whsec_short', id);
    await sql`update fanfare.webhook_secret set sealed = ${sealed} where webhook_id = ${id}`.execute(
      engine.services.database.db,
    );
    await workOff(engine.createWorker());
    expect(received()).toHaveLength(0);
    const [delivery] = await deliveries();
    expect(delivery).toMatchObject({ status: 'PENDING', attempts: [{ errorClass: 'PROTOCOL', statusCode: null }] });
    expect(delivery?.attempts[0]?.responseBody).toMatch(/expected a signing secret/);
  });

  it('deliver to a healthy receiver at once while 50 others hang', async () => {
    const release = Promise.withResolvers<void>();
    receiver.always('/hanging', { after: release.promise });
    const hanging = new Set<unknown>();
    for (let n = 0; n < 50; n++) hanging.add((await hook('/hanging')).id);
    await write(4);
    const stop = start(engine.createWorker({ sender: patient, pollMs: 20 }));
    await eventually(() => receiver.requests.filter(({ path }) => path === '/hanging').length >= 150);
    const lively = await hook('/lively');
    await write(20);
    await eventually(() => lively.received().length === 20);
    // all of them in spite of the others: none of those has ended
    expect(engine.seen.filter(({ webhook_id }) => hanging.has(webhook_id))).toEqual([]);
    const narrowed = await sql<{ most: number }>`
      select max(in_flight)::int as most from (
        select count(*) as in_flight from fanfare.delivery where lease_until > clock_timestamp() group by webhook_id) each
    `.execute(engine.services.database.db);
    expect(narrowed.rows[0]?.most).toBeLessThanOrEqual(8);
    release.resolve();
    await stop();
  });

  it('keep one account from taking all places', async () => {
    const release = Promise.withResolvers<void>();
    receiver.always('/greedy', { after: release.promise });
    for (let n = 0; n < 20; n++) await hook('/greedy');
    await write(2);
    const worker = engine.createWorker({ sender: patient, accountCap: 12, maxInFlight: 16 });
    await worker.runOnce();
    await eventually(() => receiver.requests.filter(({ path }) => path === '/greedy').length === 12);
    accountId = await engine.addAccount();
    const modest = await hook('/modest');
    await write(1);
    await worker.runOnce();
    await eventually(() => modest.received().length === 1);
    expect(receiver.requests.filter(({ path }) => path === '/greedy')).toHaveLength(12);
    release.resolve();
    await worker.settled();
  });

  it('let attempts under way end when they are stopped, and hand back at the deadline those that have not', async () => {
    const release = Promise.withResolvers<void>();
    receiver.script('/draining', { after: release.promise }, { kind: 'hang' });
    const { received } = await hook('/draining');
    await write(2);
    const drainMs = 4_321;
    const drained = Promise.withResolvers<void>();
    const clock: Clock = {
      ...systemClock,
      wait: (ms, signal) => (ms === drainMs ? drained.promise : systemClock.wait(ms, signal)),
    };
    const held = { ...engine.services, clock };
    const stop = start(engine.createWorker({ engine: held, sender: patient, drainMs, pollMs: 10 }));
    await eventually(() => received().length === 2);
    const stopped = stop();
    release.resolve();
    await eventually(async () => (await deliveries({ statuses: ['SUCCEEDED'] })).length === 1);
    drained.resolve();
    await stopped;
    const left = await deliveries();
    expect(left.map(({ status, attemptCount }) => [status, attemptCount]).sort()).toEqual([
      ['PENDING', 0],
      ['SUCCEEDED', 1],
    ]);
    await workOff(engine.createWorker());
    expect(received()).toHaveLength(3);
    expect(new Set(received().map(({ headers }) => headers['webhook-id'])).size).toBe(2);
  });

  it('drop what is past retention, and end what has waited longer', async () => {
    const { database } = engine.services;
    const { id } = await hook('/old');
    await write(2);
    await workOff(engine.createWorker());
    await engine.run('mutation ($id: ID!) { webhookPause(id: $id) { __typename } }', { variables: { id }, accountId });
    await write(1);
    expect(await deliveries()).toHaveLength(3);
    const facts: Record<string, unknown>[] = [];
    await pruneDeliveries(database, { retentionDays: 7 }, (fact) => void facts.push(fact));
    expect(facts).toMatchObject([{ dropped: [], expired: 0 }]);
    await engine.advanceClock(12 * 86_400_000);
    await prune(database, { retentionDays: 7 }, () => {}); // records go behind the log
    await pruneDeliveries(database, { retentionDays: 7 }, (fact) => void facts.push(fact));
    expect(facts[1]).toMatchObject({ expired: 1 });
    expect(JSON.stringify(facts[1])).toContain('delivery_done_');
    expect(await deliveries()).toEqual([]);
    await sql`update fanfare.test_clock set ahead_by = '0'`.execute(database.db);
  });

  it('end what has waited past retention by its keys, however much waits beside it', async () => {
    const { database } = engine.services;
    const { id } = await hook('/many');
    const behind = await engine.addAccount();
    for (const [account, count, days] of [
      [accountId, 20_000, 6],
      [behind, 3_000, 8],
    ] as const)
      await sql`
        insert into fanfare.delivery (account_id, id, webhook_id, seq, position, next_at, born_at)
        select ${account}, fanfare.new_id('dlv', b.born_at), ${id}, 1, n, 'infinity', b.born_at
        from generate_series(1, ${count}::int) n cross join (select fanfare.now() - ${days}::int * interval '1 day' as born_at) b
      `.execute(database.db);
    const read = await countReads(database, (within) =>
      pruneDeliveries(within, { retentionDays: 7 }, (fact) => expect(fact).toMatchObject({ expired: 3_000 })),
    );
    expect(read).toBeLessThan(8 * 3_000); // all 20,000 for each thousand, else
    const { rows } = await sql<{ left: number }>`select count(*)::int as left from fanfare.delivery`.execute(
      database.db,
    );
    expect(rows).toEqual([{ left: 20_000 }]);
  });

  describe('of which one', () => {
    type Child = ChildProcessByStdio<null, Readable, null>;
    const children = new Set<Child>();

    afterEach(async () => {
      for (const child of children) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        const ended = once(child, 'exit');
        child.kill('SIGKILL');
        await ended;
      }
      children.clear();
    });

    async function startChild() {
      const { rows } = await sql<{ name: string }>`select current_database() as name`.execute(
        engine.services.database.db,
      );
      const url = new URL(inject('run').databaseUrl);
      url.pathname = `/${rows[0]?.name}`;
      const program = fileURLToPath(new URL('./worker-process.ts', import.meta.url));
      const child: Child = spawn(process.execPath, [program, url.href], {
        cwd: inject('run').scratchDir,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      children.add(child);
      const seen: Record<string, unknown>[] = [];
      createInterface({ input: child.stdout }).on('line', (line) => seen.push(JSON.parse(line)));
      await eventually(() => seen.some(({ name }) => name === 'worker.started'));
      return { child, seen };
    }

    it('is killed between the request and the record: the same id and bytes go out again', async () => {
      receiver.script('/killed', { kind: 'hang' });
      const { received } = await hook('/killed');
      const { child } = await startChild();
      await write(1);
      await eventually(() => received().length === 1);
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
      start(engine.createWorker({ pollMs: 20 }));
      await eventually(() => received().length === 2);
      const [first, second] = received();
      expect(second?.headers['webhook-id']).toBe(first?.headers['webhook-id']);
      expect(second?.body).toEqual(first?.body);
      await eventually(async () => (await deliveries({ statuses: ['SUCCEEDED'] })).length === 1);
      expect(await deliveries()).toMatchObject([{ attemptCount: 1 }]);
    });

    it('is frozen past its lease: what it records afterwards does not count', async () => {
      const release = Promise.withResolvers<void>();
      receiver.script('/frozen', { status: 500, after: release.promise });
      const { received } = await hook('/frozen');
      const { child, seen } = await startChild();
      await write(1);
      await eventually(() => received().length === 1);
      child.kill('SIGSTOP');
      const stop = start(engine.createWorker({ pollMs: 20 }));
      await eventually(async () => (await deliveries({ statuses: ['SUCCEEDED'] })).length === 1);
      await stop();
      child.kill('SIGCONT');
      release.resolve();
      await eventually(() => seen.some(({ outcome }) => outcome === 'superseded'));
      expect(await deliveries()).toMatchObject([{ status: 'SUCCEEDED', attemptCount: 1 }]);
      expect(textsOf(received())).toEqual(['note 0', 'note 0']);
    });
  });
});
