import { sql } from 'kysely';
import { describe, expect, it } from 'vitest';
import { prune } from '../../src/outbox/prune.ts';
import { pruneDeliveries } from '../../src/webhooks/prune.ts';
import { stepReplay } from '../../src/webhooks/replayer.ts';
import { noteWritten } from '../support/toy-domain.ts';
import { type Shown, useReplayScene } from './replay-scene.ts';
import { textsOf, workOff } from './webhook-engine.ts';

describe('a replay', () => {
  const { scene, db, at, ask, begin, texts, write, writeAndSend, finish, runsOf } = useReplayScene();
  const { hook } = scene;

  it('sends everything that is missing after an outage, and nothing else', async () => {
    const hooked = await hook({ retry: { delays: [] } });
    await writeAndSend(...texts(3, 'before')); // 1 to 3 arrive
    scene.receiver.always(hooked.path, { status: 400 });
    for (const text of texts(2, 'failed')) await writeAndSend(text); // 4 and 5 are exhausted
    const update = 'mutation ($input: WebhookUpdateInput!) { webhookUpdate(input: $input) { __typename } }';
    const pause = 'mutation ($id: ID!) { webhookPause(id: $id) { __typename } }';
    const resume = 'mutation ($id: ID!) { webhookResume(id: $id) { __typename } }';
    await ask(pause, { id: hooked.id });
    await write('cancelled'); // 6: by the next line
    await ask(update, { input: { id: hooked.id, eventTypes: ['NOTE_EDITED'] } });
    await write('unborn'); // 7 is not asked for
    await ask(update, { input: { id: hooked.id, eventTypes: ['NOTE_WRITTEN'] } });
    await write('waiting'); // 8 is on its way
    scene.receiver.always(hooked.path, {});
    await ask(resume, { id: hooked.id });
    const [failed] = await scene.engine.deliveries(
      { webhookId: hooked.id, statuses: ['EXHAUSTED'] },
      { accountId: scene.accountId },
    );
    await ask('mutation ($id: ID!) { deliveryRetry(id: $id) { __typename } }', { id: failed?.id }); // 4 is on its way again

    // what looks at open deliveries only sends what has arrived; what looks at the exhausted ones only forgets the rest
    const naive = async (condition: ReturnType<typeof sql>) => {
      const { rows } = await sql<{ text: string }>`
        select e.payload->'note'->>'text' as text from fanfare.log l join fanfare.event e on e.seq = l.seq
        where l.account_id = ${scene.accountId} and e.name = 'note.written' and ${condition} order by l.position`.execute(
        db(),
      );
      return rows.map(({ text }) => text);
    };
    const missing = ['failed 1', 'cancelled', 'unborn'];
    expect(await naive(sql`not exists (select from fanfare.delivery d where d.event_id = e.id)`)).toEqual([
      ...texts(3, 'before'),
      ...missing,
    ]);
    expect(
      await naive(sql`exists (select from fanfare.delivery_done d where d.event_id = e.id and d.status = 'EXHAUSTED')`),
    ).toEqual(['failed 1']);

    const { id } = await begin({ webhookId: hooked.id, startAfter: at(0), missing: true });
    expect(await finish(id)).toMatchObject({ status: 'DONE', missing: true, looked: 10, created: 3, succeeded: 3 }); // two are notices
    const sent = hooked.received().filter(({ headers }) => headers['fanfare-replay'] === id);
    expect(textsOf(sent)).toEqual(missing);
    const again = await begin({ webhookId: hooked.id, startAfter: at(0), missing: true });
    expect(await finish(again.id)).toMatchObject({ status: 'DONE', looked: 10, created: 0 });
  });

  it('of what is missing sends what blocks its subject, but not what waits behind it', async () => {
    const hooked = await hook({ retry: { delays: [] }, ordering: 'PER_SUBJECT', onExhausted: 'BLOCK' });
    scene.receiver.script(hooked.path, { status: 400 });
    const author = { accountId: scene.accountId, actor: null, requestId: null, causedBy: null };
    await scene.engine.services.transact(author, async (tx) => {
      for (const text of ['blocking', 'behind'])
        await tx.emit(noteWritten, { subjectId: 'note_1', payload: { note: { noteId: 'note_1', text } } });
    });
    await scene.engine.stampedEvents(scene.accountId);
    await workOff(scene.engine.createWorker());
    const { id } = await begin({ webhookId: hooked.id, startAfter: at(0), missing: true });
    expect(await finish(id)).toMatchObject({ status: 'DONE', looked: 2, created: 1, succeeded: 1 });
    expect(textsOf(hooked.received())).toEqual(['blocking', 'blocking']);
    expect(runsOf(hooked)).toEqual([undefined, id]);
  });

  it('of what is missing is not doubled by a second one, nor by the look back of a new webhook', async () => {
    await write(...texts(30));
    const hooked = await hook();
    const { id: webhookId } = hooked;
    const replays: Shown[] = [];
    for (let n = 0; n < 3; n++) replays.push(await begin({ webhookId, startAfter: at(0), missing: true }));
    await sql`update fanfare.webhook set backfilled_to = 10 where id = ${webhookId}`.execute(db()); // 11 to 30 are being looked back for
    const step = async (at: number) => {
      for (let n = 0; n < 40; n++) await stepReplay(db(), { replayId: replays[at]?.id ?? '', positions: 2 });
    };
    await Promise.all([step(0), step(1), step(2), step(0)]);
    await step(0); // what met with another one's step was left out
    const { rows } = await sql<{ position: number }>`
      select position from fanfare.delivery where webhook_id = ${webhookId} order by position`.execute(db());
    expect(rows.map(({ position }) => position)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    await sql`select fanfare.backfill_webhooks(${webhookId}, 100)`.execute(db());
    for (const { id } of replays) expect(await finish(id)).toMatchObject({ status: 'DONE', looked: 30 });
    expect(textsOf(hooked.received()).sort()).toEqual(texts(30).sort());
  });

  it('of what is missing knows what has arrived as long as the log has it, whichever is pruned first', async () => {
    const { id: webhookId } = await hook();
    await writeAndSend(...texts(3));
    const { database } = scene.engine.services;
    const days = { retentionDays: 30 };
    const records = async () =>
      (await sql`select from fanfare.delivery_done where webhook_id = ${webhookId}`.execute(db())).rows;
    await scene.engine.advanceClock(32 * 86_400_000);
    try {
      await pruneDeliveries(database, days, () => {});
      const { id } = await begin({ webhookId, startAfter: at(0), missing: true });
      expect(await finish(id)).toMatchObject({ status: 'DONE', looked: 3, created: 0 });
      await prune(database, days, () => {});
      expect(await records()).toHaveLength(3);
      await pruneDeliveries(database, days, () => {});
      expect(await records()).toEqual([]);
    } finally {
      await sql`update fanfare.test_clock set ahead_by = '0'`.execute(db());
    }
  });
});
