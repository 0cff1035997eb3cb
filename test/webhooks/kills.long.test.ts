import { sql } from 'kysely';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { percentile } from './healthy-beat.ts';
import { holdRequests } from './held-requests.ts';
import { findFaults } from './kill-check.ts';
import { runStorm } from './kill-storm.ts';
import { orphansOf } from './orphans.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';
import { AS_SHIPPED } from './worker-fleet.ts';

/** How many of the 50 webhooks ask for an event: `npm run test:long -- --fanout 50` makes 500,000 deliveries. */
const fanout = Number(process.env.FANFARE_FANOUT ?? 10);

let engine: WebhookEngine;
beforeAll(async () => {
  engine = await openWebhookEngine('postgres');
});
afterAll(() => engine?.close());

it('leaves nothing out over 200 kills during 10,000 events, and sends again only what was in flight', async () => {
  const options = { seed: 2, kills: 200, events: 10_000, webhooks: 50, fanout, workers: 3, settings: AS_SHIPPED };
  const { evidence, figures } = await runStorm(engine, options);
  process.stdout.write(`${figures}\n`);
  expect(evidence.killedAtMs.size).toBe(200);
  expect(evidence.expected.size).toBe(10_000 * fanout);
  expect(findFaults(evidence)).toEqual([]);
  // of the time in which a worker lived; the longest are printed
  expect(
    percentile(
      orphansOf(evidence).map(({ livedMs }) => livedMs),
      50,
    ),
  ).toBeLessThan(5_000);
}, 3_600_000);

it('sends all that a killed worker held again within 5 s', async () => {
  await using scene = await holdRequests(engine, { webhooks: 10, events: 8, settings: AS_SHIPPED });
  const victim = scene.launch();
  await eventually(() => scene.book.requests.length === 80);
  await scene.launch().started();
  const killedAtMs = Date.now();
  await victim.kill();
  await eventually(() => scene.book.requests.length === 160);
  const [first = 0, last = 0] = [80, 159].map((at) => (scene.book.requests[at]?.atMs ?? 0) - killedAtMs);
  process.stdout.write(`80 orphans sent again after ${first} to ${last} ms\n`);
  expect(last).toBeLessThan(5_000);
  scene.answer(200);
  await scene.untilDone();
});

it('refuses what a worker writes that was frozen past its leases', async () => {
  await using scene = await holdRequests(engine, { webhooks: 10, events: 8, settings: AS_SHIPPED });
  const frozen = scene.launch();
  await eventually(() => scene.book.requests.length === 80);
  frozen.signal('SIGSTOP');
  scene.launch();
  await eventually(() => scene.book.requests.length === 160);
  // what the frozen one has been told would try again, or begin anew
  scene.answer(200, (sender) => (sender === frozen.name ? 500 : undefined));
  await scene.untilDone();
  const before = await scene.done();
  frozen.signal('SIGCONT');
  await eventually(() => frozen.seen.filter(({ outcome }) => outcome === 'superseded').length === 80);
  expect(await scene.done()).toEqual(before);
  expect(before.map(({ status }) => status)).toEqual(Array(80).fill('SUCCEEDED'));
  await scene.untilDone();
  expect(scene.book.requests).toHaveLength(160);
});

it('is seen that living workers send twice where leases are ignored (control)', async () => {
  await using scene = await holdRequests(engine, { webhooks: 1, events: 3, settings: AS_SHIPPED });
  await scene.launch().started();
  await eventually(() => scene.book.requests.length === 3);
  await scene.launch().started();
  await eventually(async () => {
    const { db } = engine.services.database;
    await sql`update fanfare.delivery set lease_until = clock_timestamp() - interval '1 s'`.execute(db);
    await sql`update fanfare.turn set lease_until = clock_timestamp() - interval '1 s'`.execute(db);
    return scene.book.requests.length > 3;
  });
  scene.answer(200);
  await scene.untilDone();
  const kinds = findFaults(await scene.evidence()).map(({ kind }) => kind);
  expect(kinds).toContain('repeated');
});
