import { sql } from 'kysely';
import { describe, expect, it } from 'vitest';
import { stepReplay } from '../../src/webhooks/replayer.ts';
import { openReceiver } from '../support/receiver.ts';
import { BEGIN, useReplayScene } from './replay-scene.ts';
import { openWebhookEngine, textsOf, workOff } from './webhook-engine.ts';
import { useWebhookScene } from './webhook-scene.ts';

describe('a replay', () => {
  const { scene, db, at, ask, begin, refuse, change, show, texts, write, writeAndSend, finish, runsOf, positionsOf } =
    useReplayScene();
  const { hook } = scene;

  it('sends a range once more, oldest first, as deliveries of its own', async () => {
    const hooked = await hook();
    await writeAndSend(...texts(6));
    const born = await scene.engine.deliveries({ webhookId: hooked.id }, { accountId: scene.accountId });
    const first = born.sort((a, b) => Number(a.event?.position) - Number(b.event?.position));
    const begun = await begin({ webhookId: hooked.id, startAfter: at(1), until: at(5) });
    expect(begun).toMatchObject({
      status: 'RUNNING',
      total: 4,
      looked: 0,
      created: 0,
      estimated: null,
      missing: false,
    });
    expect(begun).toMatchObject({ startAfter: at(1), until: at(5), lookedTo: at(1), ratePerSecond: null });
    expect(await finish(begun.id)).toMatchObject({
      ...{ status: 'DONE', looked: 4, created: 4, estimated: 4, pending: 0, succeeded: 4, exhausted: 0, cancelled: 0 },
      finishedAt: expect.any(String),
    });
    const again = hooked.received().slice(6);
    expect(textsOf(again)).toEqual(['note 1', 'note 2', 'note 3', 'note 4']);
    expect(again.map(({ headers }) => headers['fanfare-replay'])).toEqual(Array(4).fill(begun.id));
    expect(again.map(({ headers }) => headers['fanfare-event-id'])).toEqual(
      first.slice(1, 5).map(({ eventId }) => eventId),
    );
    const ids = new Set(first.map(({ id }) => id));
    expect(again.filter(({ headers }) => ids.has(String(headers['webhook-id'])))).toEqual([]);
    expect(runsOf(hooked).slice(0, 6)).toEqual(Array(6).fill(undefined));
    const listed = await ask(
      `query ($run: ID!) { deliveries(filter: { run: $run, statuses: [SUCCEEDED] }) { nodes { run } } node(id: $run) { ... on Replay { deliveries { nodes { run } } } } }`,
      { run: begun.id },
    );
    const nodes = Array(4).fill({ run: begun.id });
    expect(listed).toEqual({ deliveries: { nodes }, node: { deliveries: { nodes } } });
  });

  it('begins at a moment and ends before one, by when the events got their positions', async () => {
    const hooked = await hook();
    const moments: Date[] = [];
    for (const text of texts(4)) {
      await writeAndSend(text);
      await scene.engine.advanceClock(60_000);
      const { rows } = await sql<{ now: Date }>`select fanfare.now() as now`.execute(db());
      moments.push(...rows.map(({ now }) => now));
      await scene.engine.advanceClock(60_000);
    }
    const { id } = await begin({ webhookId: hooked.id, since: moments[0], until: moments[2]?.toISOString() });
    await finish(id);
    expect(textsOf(hooked.received().slice(4))).toEqual(['note 1', 'note 2']);
    const later = await begin({ webhookId: hooked.id, since: moments[3] });
    expect(await finish(later.id)).toMatchObject({ status: 'DONE', total: 0, created: 0 });
    const all = await begin({ webhookId: hooked.id, since: '2020-01-01T00:00:00Z', until: at(3) });
    expect(await finish(all.id)).toMatchObject({ status: 'DONE', total: 3, created: 3 });
  });

  it('begins at a moment since which nothing was lost, also where all before is past retention', async () => {
    const hooked = await hook();
    await write('long ago');
    await sql`delete from fanfare.log where account_id = ${scene.accountId}`.execute(db()); // as retention does
    const since = new Date(Date.now() + 60_000);
    expect(await begin({ webhookId: hooked.id, since })).toMatchObject({ total: 0 });
    await write('lately');
    const { id } = await begin({ webhookId: hooked.id, since: new Date(Date.now() - 60_000) });
    expect(await finish(id)).toMatchObject({ status: 'DONE', total: 1, succeeded: 1 });
    expect(await refuse({ webhookId: hooked.id, since: '2020-01-01T00:00:00Z' })).toMatchObject({
      code: 'CURSOR_EXPIRED',
    });
  });

  it('takes no range that is not one', async () => {
    const { id: webhookId } = await hook();
    await write(...texts(3));
    const bad = { code: 'BAD_INPUT' };
    expect(await refuse({ webhookId })).toMatchObject(bad);
    expect(await refuse({ webhookId, startAfter: at(1), since: '2026-01-01T00:00:00Z' })).toMatchObject(bad);
    expect(await refuse({ webhookId, startAfter: at(2), until: at(1) })).toMatchObject(bad);
    expect(await refuse({ webhookId, startAfter: at(2), until: '2026-02-31T00:00:00Z' })).toMatchObject(bad);
    expect(await refuse({ webhookId, startAfter: at(0), filter: { subjects: [] } })).toMatchObject(bad);
    expect(await refuse({ webhookId, startAfter: at(0), ratePerSecond: 1e9 })).toMatchObject(bad);
    expect(await refuse({ webhookId, startAfter: 'garbage' })).toMatchObject({ code: 'INVALID_CURSOR' });
    expect(await refuse({ webhookId, startAfter: at(0), until: 'garbage' })).toMatchObject({ code: 'INVALID_CURSOR' });
    expect(await refuse({ webhookId, startAfter: at(99) })).toMatchObject({ code: 'INVALID_CURSOR' });
    expect(await refuse({ webhookId: 'wh_0', startAfter: at(0) })).toMatchObject({ code: 'NOT_FOUND' });
    const other = await scene.engine.addAccount();
    const startAfter = scene.engine.services.cursors.encode(other, { kind: 'position', position: 0 });
    expect(await refuse({ webhookId, startAfter })).toMatchObject({ code: 'INVALID_CURSOR' });
    expect(await refuse({ webhookId, since: '2020-01-01T00:00:00Z' }, { accountId: other })).toMatchObject({
      code: 'NOT_FOUND',
    });
    await sql`delete from fanfare.log where account_id = ${scene.accountId} and position = 1`.execute(db()); // as retention does
    expect(await refuse({ webhookId, startAfter: at(0) })).toMatchObject({ code: 'CURSOR_EXPIRED' });
    expect(await refuse({ webhookId, since: '2020-01-01T00:00:00Z' })).toMatchObject({ code: 'CURSOR_EXPIRED' });
  });

  it('is for keys that may see all that the webhook sees', async () => {
    const { id: webhookId } = await hook();
    const input = { webhookId, startAfter: at(0) };
    expect(await refuse(input, { scopes: ['webhooks:read'] })).toMatchObject({ code: 'FORBIDDEN' });
    expect(await refuse(input, { scopes: ['webhooks:write', 'events:read'] })).toMatchObject({ code: 'FORBIDDEN' });
    expect(await refuse(input, { narrowing: [{ types: ['note.edited'] }] })).toMatchObject({ code: 'FORBIDDEN' });
    const { id } = await begin(input);
    await change('Cancel', id);
    const resume = 'mutation ($id: ID!) { deliveriesReplayResume(id: $id) { __typename } }';
    const options = { accountId: scene.accountId, variables: { id }, scopes: ['webhooks:write', 'events:read'] };
    expect(await scene.engine.fail(resume, options)).toMatchObject({ code: 'FORBIDDEN' });
    const accountId = await scene.engine.addAccount();
    expect(await scene.engine.fail(resume, { accountId, variables: { id } })).toMatchObject({ code: 'NOT_FOUND' });
    expect(
      await scene.engine.run('query ($id: ID!) { replay(id: $id) { id } }', { accountId, variables: { id } }),
    ).toEqual({ replay: null });
    expect(await ask('query ($id: ID!) { replays(webhookId: $id) { nodes { id } } }', { id: webhookId })).toEqual({
      replays: { nodes: [{ id }] },
    });
  });

  it('sends what passes its filter, the selection of the webhook and its grants', async () => {
    await write('one', 'two', 'three');
    const events = await scene.engine.stampedEvents(scene.accountId);
    const subjects = events.slice(0, 2).map(({ subjectId }) => subjectId);
    const hooked = await hook({
      eventTypes: ['NOTE_WRITTEN'],
      filter: { subjects: [subjects[1], events[2]?.subjectId] },
    });
    const { id } = await begin({ webhookId: hooked.id, startAfter: at(0), filter: { subjects } });
    expect(await finish(id)).toMatchObject({
      filter: { subjects: [...subjects].sort() },
      looked: 3,
      created: 1,
      succeeded: 1,
    });
    expect(textsOf(hooked.received())).toEqual(['two']);
    const none = await begin({ webhookId: hooked.id, startAfter: at(0), filter: { types: ['NOTE_EDITED'] } });
    expect(await finish(none.id)).toMatchObject({ status: 'DONE', created: 0 });
  });

  it('keeps to the full schedule of retries', async () => {
    const hooked = await hook({ retry: { delays: [60] } });
    await writeAndSend('flaky', 'dead');
    scene.receiver.script(hooked.path, { status: 500 }, { status: 500 });
    const { id } = await begin({ webhookId: hooked.id, startAfter: at(0) });
    const worker = scene.engine.createWorker({ webhookCap: 1 });
    await stepReplay(db(), { replayId: id });
    await workOff(worker);
    expect(await show(id)).toMatchObject({ status: 'RUNNING', looked: 2, created: 2, pending: 2 });
    scene.receiver.script(hooked.path, { status: 200 }, { status: 500 });
    await scene.engine.advanceClock(70_000);
    expect(await finish(id)).toMatchObject({ status: 'DONE', pending: 0, succeeded: 1, exhausted: 1 });
  });

  it('is refused where a webhook has three that are looking', async () => {
    const { id: webhookId } = await hook();
    await write('one');
    const input = { webhookId, startAfter: at(0) };
    const ids = [];
    for (let n = 0; n < 3; n++) ids.push((await begin(input)).id);
    expect(await refuse(input)).toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('3 replays') });
    await stepReplay(db(), { replayId: ids[1] ?? '' });
    await begin(input);
    expect(await refuse(input)).toMatchObject({ code: 'CONFLICT' });
    await change('Cancel', ids[0] ?? '');
    await begin(input);
    expect(
      await scene.engine.fail('mutation ($id: ID!) { deliveriesReplayResume(id: $id) { __typename } }', {
        accountId: scene.accountId,
        variables: { id: ids[0] },
      }),
    ).toMatchObject({ code: 'CONFLICT' });
  });

  it('says how much of its range retention had dropped before it came there', async () => {
    const { id: webhookId } = await hook();
    await write(...texts(10));
    const { id } = await begin({ webhookId, startAfter: at(0) });
    await sql`delete from fanfare.log where account_id = ${scene.accountId} and position <= 4`.execute(db());
    expect(await finish(id)).toMatchObject({ status: 'DONE', looked: 10, expired: 4, created: 6, succeeded: 6 });
  });

  it('finds events that were captured long before they got their positions', async () => {
    const hooked = await hook();
    await write(...texts(4));
    await sql`delete from fanfare.delivery`.execute(db());
    // a transaction of nine days
    await sql`update fanfare.event set occurred_at = occurred_at - interval '9 days' where account_id = ${scene.accountId} and seq % 2 = 0`.execute(
      db(),
    );
    const { id } = await begin({ webhookId: hooked.id, startAfter: at(0) });
    for (let step = await stepReplay(db(), { replayId: id }); step?.born !== 0; )
      step = await stepReplay(db(), { replayId: id });
    expect(await positionsOf(id)).toEqual([1, 2, 3, 4]);
  });
});

it('is replayed in the embedded database, too', async () => {
  const engine = await openWebhookEngine('pglite');
  const receiver = await openReceiver();
  try {
    await engine.writeNote('embedded');
    await engine.stampedEvents();
    const { id: webhookId } = await engine.createWebhook({ url: receiver.url, eventTypes: ['NOTE_WRITTEN'] });
    const input = { webhookId, since: '2026-01-01T00:00:00Z', missing: true };
    await engine.run(BEGIN, { variables: { input } });
    expect(await stepReplay(engine.services.database.db)).toMatchObject({ born: 1 });
    await workOff(engine.createWorker());
    const counts = 'query { replays(first: 1) { nodes { created pending succeeded } } }';
    expect(await engine.run(counts)).toEqual({ replays: { nodes: [{ created: 1, pending: 0, succeeded: 1 }] } });
    expect(receiver.requests).toHaveLength(1);
  } finally {
    await receiver.close();
    await engine.close();
  }
});

describe('a manual resend', () => {
  const scene = useWebhookScene();

  it('is a run of its own with a header, and hastening is none', async () => {
    const { accountId, engine, receiver } = scene;
    const hooked = await scene.hook({ retry: { delays: [600] } });
    receiver.script(hooked.path, { status: 500 });
    await engine.writeNote('again', accountId);
    await engine.stampedEvents(accountId);
    const worker = engine.createWorker();
    await workOff(worker);
    const [first] = await engine.deliveries({}, { accountId });
    const retry = () =>
      engine.run('mutation ($id: ID!) { deliveryRetry(id: $id) { __typename } }', {
        accountId,
        variables: { id: first?.id },
      });
    await retry(); // hastens the one that waits
    await workOff(worker);
    await retry();
    await workOff(worker);
    await retry();
    await workOff(worker);
    const runs = hooked.received().map(({ headers }) => headers['fanfare-replay']);
    expect(runs).toEqual([undefined, undefined, expect.stringMatching(/^rsd_/), expect.stringMatching(/^rsd_/)]);
    expect(runs[2]).not.toBe(runs[3]);
    expect(new Set(hooked.received().map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    expect(
      await engine.run('query ($id: ID!) { delivery(id: $id) { run } }', { accountId, variables: { id: first?.id } }),
    ).toEqual({ delivery: { run: runs[3] } });
  });
});
