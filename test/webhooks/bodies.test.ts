import { sql } from 'kysely';
import { beforeEach, expect, it } from 'vitest';
import { readBodies, storeBodies } from '../../src/webhooks/bodies.ts';
import { type Claim, claimDeliveries, renewClaims } from '../../src/webhooks/claim.ts';
import { finishDeliveries } from '../../src/webhooks/finish.ts';
import { CLAIM_LIMITS, failedAttempt } from '../support/claims.ts';
import { eventually } from '../support/eventually.ts';
import { useWebhookScene } from './webhook-scene.ts';

const scene = useWebhookScene();
const database = () => scene.engine.services.database;
const KEY = 'a key';

beforeEach(async () => {
  await scene.hook();
  await scene.engine.writeNote('any', scene.accountId);
  await scene.engine.stampedEvents(scene.accountId);
});

it('a result ties its delivery to the bytes that were sent', async () => {
  const claim = await claimOne();
  await store('sent', [claim]);
  await finishDeliveries(database(), [{ claim, status: 'rescheduled', attempt: failedAttempt(), delayMs: 0 }]);
  expect((await claimOne()).bodyKey).toBe(KEY);
});

it('a renewal does so before the result', async () => {
  const claim = await claimOne();
  const limits = { holder: CLAIM_LIMITS.holder, leaseMs: 0 };
  await renewClaims(database(), [claim], limits);
  expect((await claimOne()).bodyKey).toBeNull();
  const later = await claimOne();
  await store('sent', [later]);
  await renewClaims(database(), [later], limits);
  expect((await claimOne()).bodyKey).toBe(KEY);
});

it('who claims anew what a killed process has sent sends the same bytes', async () => {
  const killed = await claimOne();
  await store('sent', [killed]);
  const next = await claimOne();
  expect(next).toMatchObject({ id: killed.id, bodyKey: null, generation: killed.generation + 1 });
  expect(await store('rendered anew', [next])).toEqual(new Map([[next.id, 'sent']]));
  expect(await store('of another document', [next], 'another key')).toEqual(
    new Map([[next.id, 'of another document']]),
  );
});

it('of several bodies each keeps its own bytes, whatever letters they are of', async () => {
  const claim = await claimOne();
  const texts = ['', 'ä"\\', '漢字 {}', 'z', '🎺'];
  const bodies = texts.map((body, at) => ({
    ...freshBody(body, []),
    key: `key ${at}`,
    claims: at === 3 ? [claim] : [],
  }));
  expect(await storeBodies(database(), bodies)).toEqual(new Map([[claim.id, 'z']]));
  const wanted = bodies.map(({ key, seq }) => ({ key, seq, eventId: null }));
  const stored = await readBodies(database().db, wanted);
  expect(stored.map(({ key, body }) => [key, body]).sort()).toEqual(texts.map((body, at) => [`key ${at}`, body]));
});

it('is seen while the first attempt goes on', async () => {
  const release = Promise.withResolvers<void>();
  const slow = await scene.hook();
  scene.receiver.script(slow.path, { after: release.promise });
  await scene.engine.writeNote('slow', scene.accountId);
  await scene.engine.stampedEvents(scene.accountId);
  scene.start(scene.engine.createWorker({ leaseMs: 1_000, pollMs: 20 }));
  await eventually(() => slow.received().length === 1);
  await eventually(async () => {
    const [delivery] = await scene.engine.deliveries({ webhookId: slow.id }, { accountId: scene.accountId });
    return delivery?.status === 'SENDING' && delivery.body?.includes('slow');
  });
  release.resolve();
});

/** The only one that is open, whoever has it. */
async function claimOne(): Promise<Claim> {
  await sql`update fanfare.delivery set lease_until = null`.execute(database().db);
  const [claim] = await claimDeliveries(database(), CLAIM_LIMITS);
  if (claim === undefined) throw new Error('there is nothing to claim');
  return claim;
}

function store(body: string, claims: readonly Claim[], key = KEY): Promise<ReadonlyMap<string, string>> {
  return storeBodies(database(), [{ ...freshBody(body, claims), key }]);
}

const OCCURRED = new Date();

function freshBody(body: string, claims: readonly Claim[]) {
  return { seq: claims[0]?.seq ?? 1_000_000_000, key: KEY, body, occurredAt: OCCURRED, claims };
}
