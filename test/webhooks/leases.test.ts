import { AsyncResource } from 'node:async_hooks';
import { sql } from 'kysely';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type { Sender } from '../../src/webhooks/attempt.ts';
import { type Claim, claimDeliveries, renewClaims } from '../../src/webhooks/claim.ts';
import type { WebhookWorker, WebhookWorkerDeps } from '../../src/webhooks/worker.ts';
import { CLAIM_LIMITS } from '../support/claims.ts';
import { eventually } from '../support/eventually.ts';
import { openReceiver, type Receiver } from '../support/receiver.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';

const NOTES = 'subscription { noteWritten { id note { text } } }';
const LIMITS = { ...CLAIM_LIMITS, leaseMs: 60_000 };

let engine: WebhookEngine;
let receiver: Receiver;
/** Waits longer than any test: a second request is no retry. */
let patient: Sender;
const running = new Set<() => Promise<void>>();

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
afterEach(async () => {
  for (const stop of running) await stop();
  running.clear();
  await sql`delete from fanfare.delivery`.execute(engine.services.database.db);
});

it('is renewed while a slow receiver takes its time, so that no other sends it too', async () => {
  const release = Promise.withResolvers<void>();
  receiver.script('/slow', { after: release.promise });
  const received = await oneDelivery('/slow');
  start(engine.createWorker({ sender: patient, drainMs: 200, leaseMs: 400, pollMs: 20 }));
  await eventually(() => received().length === 1);
  start(engine.createWorker({ sender: patient, drainMs: 200, leaseMs: 400, pollMs: 20 }));
  const until = await leaseUntil();
  // renewed at least four times past its first end
  await eventually(async () => (await leaseUntil()) - until > 1_600);
  expect(received()).toHaveLength(1);
  release.resolve();
  await eventually(async () => (await open()) === 0);
  expect(received()).toHaveLength(1);
});

it('runs out where nothing renews it, and another sends it too (control)', async () => {
  receiver.script('/unrenewed', { kind: 'hang' });
  const received = await oneDelivery('/unrenewed');
  start(
    engine.createWorker({ sender: patient, drainMs: 200, leaseMs: 400, holdMs: 0, attemptMs: -60_000, pollMs: 20 }),
  );
  await eventually(() => received().length === 1);
  start(engine.createWorker({ sender: patient, drainMs: 200, leaseMs: 400, pollMs: 20 }));
  await eventually(() => received().length === 2);
});

it('is not renewed for longer than a delivery may be held', async () => {
  receiver.script('/held', { kind: 'hang' });
  const received = await oneDelivery('/held');
  start(engine.createWorker({ sender: patient, drainMs: 200, leaseMs: 200, holdMs: 600, attemptMs: 0, pollMs: 20 }));
  await eventually(() => received().length === 1);
  start(engine.createWorker({ sender: patient, drainMs: 200, leaseMs: 200, pollMs: 20 }));
  await eventually(() => received().length === 2);
});

it("is not renewed under an older claim's generation: who was frozen does not lengthen the next owner's", async () => {
  await oneDelivery('/frozen');
  const { database } = engine.services;
  const [stale] = await claimDeliveries(database, { ...LIMITS, leaseMs: 0 });
  const [fresh] = await claimDeliveries(database, LIMITS);
  if (stale === undefined || fresh === undefined) throw new Error('expected two claims');
  const until = await leaseUntil();
  expect([...(await renewClaims(database, [stale], { holder: 'one', leaseMs: 600_000 }))]).toEqual([]);
  expect(await leaseUntil()).toBe(until);
  // the control: known by its id alone, it would be
  expect(await renewNaively(stale)).toBe(1);
  expect(await leaseUntil()).toBeGreaterThan(until);
  expect([...(await renewClaims(database, [fresh], { holder: 'one', leaseMs: 60_000 }))]).toEqual([fresh.id]);
});

it('is left alone while another statement has the delivery', async () => {
  await oneDelivery('/locked');
  const { database } = engine.services;
  const claims = await claimDeliveries(database, LIMITS);
  const renewOutside = AsyncResource.bind(() => renewClaims(database, claims, { holder: 'one', leaseMs: 60_000 })); // of the transaction's context
  await database.transaction(async (tx) => {
    await sql`select from fanfare.delivery for update`.execute(tx);
    expect([...(await renewOutside())]).toEqual([]);
  });
  expect([...(await renewClaims(database, claims, { holder: 'one', leaseMs: 60_000 }))]).toEqual(
    claims.map(({ id }) => id),
  );
});

it('can not be renewed when the delivery has ended or was handed back', async () => {
  await oneDelivery('/ended');
  const { database } = engine.services;
  const claims = await claimDeliveries(database, LIMITS);
  await sql`update fanfare.delivery set lease_until = null`.execute(database.db);
  expect([...(await renewClaims(database, claims, { holder: 'one', leaseMs: 60_000 }))]).toEqual([]);
  await sql`delete from fanfare.delivery`.execute(database.db);
  expect([...(await renewClaims(database, claims, { holder: 'one', leaseMs: 60_000 }))]).toEqual([]);
});

it('is tried again when the database was away', async () => {
  const release = Promise.withResolvers<void>();
  receiver.script('/away', { after: release.promise });
  const received = await oneDelivery('/away');
  const { database } = engine.services;
  const outage = { isOn: false };
  const flaky: WebhookWorkerDeps['engine'] = {
    ...engine.services,
    database: {
      ...database,
      get db() {
        if (outage.isOn) throw new Error('the database is away');
        return database.db;
      },
    },
  };
  start(engine.createWorker({ engine: flaky, sender: patient, drainMs: 200, leaseMs: 400, pollMs: 20 }));
  await eventually(() => received().length === 1);
  outage.isOn = true;
  await eventually(() => engine.seen.some(({ name }) => name === 'delivery.lease_failed'));
  outage.isOn = false;
  const until = await leaseUntil();
  await eventually(async () => (await leaseUntil()) > until);
  release.resolve();
  await eventually(async () => (await open()) === 0);
});

it('may run out while the database is away: the same process does not send beside itself, and its result counts', async () => {
  const release = Promise.withResolvers<void>();
  receiver.script('/outage', { after: release.promise });
  const received = await oneDelivery('/outage');
  start(engine.createWorker({ sender: patient, drainMs: 200, leaseMs: 400, pollMs: 20 }));
  await eventually(() => received().length === 1);
  const before = engine.seen.length;
  const { db } = engine.services.database;
  await eventually(async () => {
    // what an outage leaves behind: the lease has run out before it could be renewed
    await sql`update fanfare.delivery set lease_until = clock_timestamp() - interval '1 s'`.execute(db);
    return (await generation()) > 1;
  });
  release.resolve();
  await eventually(async () => (await open()) === 0);
  expect(received()).toHaveLength(1);
  const outcomes = engine.seen.slice(before).flatMap(({ outcome }) => outcome ?? []);
  expect(outcomes).toEqual(['succeeded']);
});

/** A webhook with one delivery that is due. @returns what it has received */
async function oneDelivery(path: string) {
  const accountId = await engine.addAccount();
  await engine.createWebhook({ url: `${receiver.url}${path}`, query: NOTES }, { accountId });
  await engine.writeNote('one', accountId);
  await engine.stampedEvents(accountId);
  return () => receiver.requests.filter((request) => request.path === path);
}

function start(worker: WebhookWorker): void {
  const ending = new AbortController();
  const ended = worker.run(ending.signal);
  running.add(() => {
    ending.abort();
    return ended;
  });
}

/** How often the one delivery was claimed. */
async function generation(): Promise<number> {
  const { rows } = await sql<{ generation: number }>`select generation from fanfare.delivery`.execute(
    engine.services.database.db,
  );
  return rows[0]?.generation ?? Number.NaN;
}

/** Deliveries that have not ended. */
async function open(): Promise<number> {
  const { rows } = await sql<{ count: number }>`select count(*)::int as count from fanfare.delivery`.execute(
    engine.services.database.db,
  );
  return rows[0]?.count ?? Number.NaN;
}

/** By the database's clock, in milliseconds. */
async function leaseUntil(): Promise<number> {
  const { rows } = await sql<{ until: Date }>`select lease_until as until from fanfare.delivery`.execute(
    engine.services.database.db,
  );
  return rows[0]?.until.getTime() ?? Number.NaN;
}

async function renewNaively({ id }: Claim): Promise<number> {
  const result = await sql`
    update fanfare.delivery set lease_until = clock_timestamp() + interval '600 s' where id = ${id}
  `.execute(engine.services.database.db);
  return Number(result.numAffectedRows);
}
