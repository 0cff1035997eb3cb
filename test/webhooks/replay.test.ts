import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { sql } from 'kysely';
import { describe, expect, inject, it } from 'vitest';
import { runReplays, stepReplay } from '../../src/webhooks/replayer.ts';
import { eventually } from '../support/eventually.ts';
import { urlOfDatabase } from '../support/postgres-client.ts';
import { openReceiver } from '../support/receiver.ts';
import { noteWritten } from '../support/toy-domain.ts';
import { openWebhookEngine, textsOf, workOff } from './webhook-engine.ts';
import { type Hooked, useWebhookScene } from './webhook-scene.ts';

const REPLAY = `id webhookId status reason filter { subjects } missing ratePerSecond total looked expired created estimated pending
  succeeded exhausted cancelled renderFailed finishedAt`;
const BEGIN = `mutation ($input: DeliveriesReplayInput!) { deliveriesReplay(input: $input) {
  ... on DeliveriesReplaySuccess { replay { ${REPLAY} startAfter until lookedTo } } } }`;

interface Shown {
  readonly id: string;
  readonly status: string;
  readonly created: number;
  readonly pending: number;
  readonly succeeded: number;
  readonly cancelled: number;
  readonly finishedAt: string | null;
}

describe('a replay', () => {
  const scene = useWebhookScene();
  const { hook } = scene;
  const db = () => scene.engine.services.database.db;
  const at = (position: number) =>
    scene.engine.services.cursors.encode(scene.accountId, { kind: 'position', position });
  const ask = <Data>(source: string, variables: object = {}, options: object = {}) =>
    scene.engine.run<Data>(source, { accountId: scene.accountId, variables: { ...variables }, ...options });

  async function begin(input: Readonly<Record<string, unknown>>): Promise<Shown> {
    const { deliveriesReplay } = await ask<{ deliveriesReplay: { replay: Shown } }>(BEGIN, { input });
    return deliveriesReplay.replay;
  }

  const refuse = (input: Readonly<Record<string, unknown>>, options: object = {}) =>
    scene.engine.fail(BEGIN, { accountId: scene.accountId, variables: { input }, ...options });

  async function change(name: 'Cancel' | 'Resume', id: string): Promise<Shown> {
    const field = `deliveriesReplay${name}`;
    const source = `mutation ($id: ID!) { it: ${field}(id: $id) { ... on ${field.replace('d', 'D')}Success { replay { ${REPLAY} } } } }`;
    return (await ask<{ it: { replay: Shown } }>(source, { id })).it.replay;
  }

  async function show(id: string): Promise<Shown> {
    return (await ask<{ replay: Shown }>(`query ($id: ID!) { replay(id: $id) { ${REPLAY} } }`, { id })).replay;
  }

  const texts = (count: number, prefix = 'note') => Array.from({ length: count }, (_, n) => `${prefix} ${n}`);

  async function write(...notes: readonly string[]): Promise<void> {
    for (const text of notes) await scene.engine.writeNote(text, scene.accountId);
    await scene.engine.stampedEvents(scene.accountId);
  }

  /** Written, and what the webhooks' first deliveries are is sent. */
  async function writeAndSend(...notes: readonly string[]): Promise<void> {
    await write(...notes);
    await workOff(scene.engine.createWorker());
  }

  /** Steps and sends in turn until nothing is left to see to. */
  async function finish(id: string, positions?: number): Promise<Shown> {
    const worker = scene.engine.createWorker();
    for (let isOver = false; !isOver; ) {
      const step = await stepReplay(db(), { replayId: id, ...(positions === undefined ? {} : { positions }) });
      await workOff(worker);
      isOver = step === undefined || step.has_finished;
    }
    return show(id);
  }

  const runsOf = (hooked: Hooked) => hooked.received().map(({ headers }) => headers['fanfare-replay']);

  /** Of the deliveries of a replay, by its record: how often each position is there. */
  async function positionsOf(id: string): Promise<number[]> {
    const { rows } = await sql<{ position: number }>`
      select position from fanfare.delivery_record where run = ${id} order by position`.execute(db());
    return rows.map(({ position }) => position);
  }

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

  it('goes on after a cancel in the middle, and each event arrives exactly once', async () => {
    const hooked = await hook();
    await writeAndSend(...texts(40));
    const { id } = await begin({ webhookId: hooked.id, startAfter: at(0) });
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    const created = (await stepReplay(db(), { replayId: id }))?.born ?? 0;
    expect(created).toBeLessThan(40);
    scene.receiver.script(hooked.path, {}, {}, {}, {}, { after: held }, { after: held });
    const stop = scene.start(scene.engine.createWorker({ webhookCap: 2 }));
    await eventually(() => expect(hooked.received()).toHaveLength(46));
    expect(await change('Cancel', id)).toMatchObject({
      status: 'CANCELLED',
      reason: 'the replay was cancelled',
      created,
    });
    release();
    // what a worker had in hand arrives, and nothing else
    await eventually(async () => expect(await show(id)).toMatchObject({ pending: 0 }));
    await stop();
    const { succeeded, cancelled } = await show(id);
    expect(succeeded).toBeGreaterThanOrEqual(6);
    expect(cancelled).toBe(created - succeeded);
    expect(hooked.received()).toHaveLength(40 + succeeded);
    await eventually(async () => (await stepReplay(db(), { replayId: id })) === undefined);

    expect(await change('Resume', id)).toMatchObject({
      status: 'RUNNING',
      reason: null,
      pending: cancelled,
      cancelled: 0,
    });
    expect(await finish(id)).toMatchObject({ status: 'DONE', created: 40, succeeded: 40, cancelled: 0 });
    expect(textsOf(hooked.received().slice(40)).sort()).toEqual(texts(40).sort());
    expect(await positionsOf(id)).toEqual(Array.from({ length: 40 }, (_, n) => n + 1));
    expect(
      await scene.engine.fail('mutation ($id: ID!) { deliveriesReplayCancel(id: $id) { __typename } }', {
        accountId: scene.accountId,
        variables: { id },
      }),
    ).toMatchObject({ code: 'CONFLICT' });
  });

  it('that is cancelled ends what fails meanwhile, too', async () => {
    const hooked = await hook();
    await writeAndSend('failing');
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    scene.receiver.script(hooked.path, { after: held, status: 500 });
    const { id } = await begin({ webhookId: hooked.id, startAfter: at(0) });
    await stepReplay(db(), { replayId: id });
    scene.start(scene.engine.createWorker());
    await eventually(() => expect(hooked.received()).toHaveLength(2));
    expect(await change('Cancel', id)).toMatchObject({ status: 'CANCELLED', pending: 1, cancelled: 0 });
    release();
    await eventually(async () => (await stepReplay(db(), { replayId: id }))?.has_finished ?? true);
    expect(await show(id)).toMatchObject({ status: 'CANCELLED', pending: 0, cancelled: 1 });
  });

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
      const { rows } = await sql<{ position: number }>`
        select l.position from fanfare.log l join fanfare.event e on e.seq = l.seq
        where l.account_id = ${scene.accountId} and ${condition} order by l.position`.execute(db());
      return rows.map(({ position }) => position);
    };
    expect(await naive(sql`not exists (select from fanfare.delivery d where d.event_id = e.id)`)).toEqual([
      1, 2, 3, 5, 6, 7,
    ]);
    expect(
      await naive(sql`exists (select from fanfare.delivery_done d where d.event_id = e.id and d.status = 'EXHAUSTED')`),
    ).toEqual([5]);

    const { id } = await begin({ webhookId: hooked.id, startAfter: at(0), missing: true });
    expect(await finish(id)).toMatchObject({ status: 'DONE', missing: true, looked: 8, created: 3, succeeded: 3 });
    expect(await positionsOf(id)).toEqual([5, 6, 7]);
    const again = await begin({ webhookId: hooked.id, startAfter: at(0), missing: true });
    expect(await finish(again.id)).toMatchObject({ status: 'DONE', looked: 8, created: 0 });
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
    const { rows } = await sql<{ position: number }>`
      select position from fanfare.delivery where webhook_id = ${webhookId} order by position`.execute(db());
    expect(rows.map(({ position }) => position)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    await sql`select fanfare.backfill_webhooks(${webhookId}, 100)`.execute(db());
    for (const { id } of replays) expect(await finish(id)).toMatchObject({ status: 'DONE', looked: 30 });
    expect(textsOf(hooked.received()).sort()).toEqual(texts(30).sort());
  });

  it('is stepped by several processes at once, each event once', async () => {
    const hooked = await hook();
    await write(...texts(200));
    await sql`delete from fanfare.delivery`.execute(db());
    const { id } = await begin({ webhookId: hooked.id, startAfter: at(0) });
    const stopping = new AbortController();
    const { engine } = scene;
    const deps = {
      engine: engine.services,
      observe: (seen: object) => void engine.seen.push({ ...seen }),
      onBorn: () => worker.wake(),
    };
    const worker = engine.createWorker();
    scene.start(worker);
    const running = [1, 2, 3].map(() => runReplays({ ...deps, pollMs: 5 }, stopping.signal));
    try {
      await eventually(async () =>
        expect(await show(id)).toMatchObject({ status: 'DONE', created: 200, succeeded: 200 }),
      );
    } finally {
      stopping.abort();
      await Promise.all(running);
    }
    expect(await positionsOf(id)).toEqual(Array.from({ length: 200 }, (_, n) => n + 1));
    expect(engine.seen.filter(({ name, replay_id }) => name === 'replay.finished' && replay_id === id)).toHaveLength(1);
  });

  it('lets what is live go before most of it, where one that is born at once would keep it waiting to the end', async () => {
    const live = async (isAtOnce: boolean) => {
      const hooked = await hook();
      const { id } = await begin({ webhookId: hooked.id, startAfter: at(0), until: at(200) });
      if (isAtOnce) await sql`update fanfare.replay set room = 1000 where id = ${id}`.execute(db());
      await stepReplay(db(), { replayId: id });
      await write(`live ${hooked.id}`);
      const worker = scene.engine.createWorker({ webhookCap: 1 });
      for (let n = 0; n < 30; n++) {
        await worker.runOnce();
        await worker.settled();
        await stepReplay(db(), { replayId: id });
      }
      await finish(id);
      return textsOf(hooked.received()).indexOf(`live ${hooked.id}`);
    };
    await write(...texts(200));
    expect(await live(false)).toBeLessThan(100);
    expect(await live(true)).toBeGreaterThan(190);
  });

  it('gives birth to few while its webhook is paused, and goes on when that is resumed', async () => {
    const hooked = await hook();
    await write(...texts(40));
    await sql`delete from fanfare.delivery`.execute(db());
    await ask('mutation ($id: ID!) { webhookPause(id: $id) { __typename } }', { id: hooked.id });
    const { id } = await begin({ webhookId: hooked.id, startAfter: at(0) });
    for (let n = 0; n < 5; n++) {
      await scene.engine.advanceClock(1_000);
      await stepReplay(db(), { replayId: id });
    }
    const { created } = await show(id);
    expect(created).toBeLessThanOrEqual(32);
    expect(await show(id)).toMatchObject({ status: 'RUNNING', estimated: 40, pending: created });
    await ask('mutation ($id: ID!) { webhookResume(id: $id) { __typename } }', { id: hooked.id });
    expect(await finish(id)).toMatchObject({ status: 'DONE', created: 40, succeeded: 40 });
    expect(textsOf(hooked.received()).sort()).toEqual(texts(40).sort());
  });

  it('keeps to its own pace', async () => {
    const { id: webhookId } = await hook();
    await write(...texts(40));
    const { id } = await begin({ webhookId, startAfter: at(0), ratePerSecond: 10 });
    const worker = scene.engine.createWorker();
    for (let second = 0; second < 4; second++) {
      for (let n = 0; n < 3; n++) {
        await stepReplay(db(), { replayId: id });
        await workOff(worker);
      }
      const { created } = await show(id);
      const { rows } = await sql<{ seconds: number }>`
        select extract(epoch from fanfare.now() - created_at)::float8 as seconds from fanfare.replay where id = ${id}`.execute(
        db(),
      );
      expect(created).toBeGreaterThanOrEqual(Math.min(second * 10, 40));
      expect(created).toBeLessThanOrEqual((rows[0]?.seconds ?? 0) * 10);
      await scene.engine.advanceClock(1_000);
    }
  });

  it('ends with its webhook, and can not be resumed', async () => {
    const hooked = await hook();
    await write(...texts(20));
    const { id } = await begin({ webhookId: hooked.id, startAfter: at(0) });
    const created = (await stepReplay(db(), { replayId: id }))?.born;
    await ask('mutation ($id: ID!) { webhookDelete(id: $id) { __typename } }', { id: hooked.id });
    expect(await show(id)).toMatchObject({
      status: 'CANCELLED',
      reason: 'the webhook was deleted',
      created,
      cancelled: created,
    });
    expect(await stepReplay(db(), { replayId: id })).toMatchObject({
      status: 'CANCELLED',
      born: 0,
      has_finished: true,
    });
    const resume = 'mutation ($id: ID!) { deliveriesReplayResume(id: $id) { __typename } }';
    expect(await scene.engine.fail(resume, { accountId: scene.accountId, variables: { id } })).toMatchObject({
      code: 'CONFLICT',
    });
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

  it('does a step whole or not at all', async () => {
    const { id: webhookId } = await hook();
    await write(...texts(5));
    const { id } = await begin({ webhookId, startAfter: at(0) });
    const killed = new Error('killed');
    const step = scene.engine.services.database.transaction(async (tx) => {
      expect(await stepReplay(tx as never, { replayId: id })).toMatchObject({ born: 5 });
      throw killed;
    });
    await expect(step).rejects.toBe(killed);
    expect(await show(id)).toMatchObject({ looked: 0, created: 0 });
    expect(await positionsOf(id)).toEqual([]);
    await stepReplay(db(), { replayId: id });
    expect(await positionsOf(id)).toEqual([1, 2, 3, 4, 5]);

    // the control: as if its place were written in a second transaction, and it was killed in between
    await sql`update fanfare.replay set looked_to = 0 where id = ${id}`.execute(db());
    await stepReplay(db(), { replayId: id });
    expect(await positionsOf(id)).toEqual([1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
  });

  it('survives kill -9 of those that step it', async () => {
    const hooked = await hook();
    await write(...texts(300));
    await sql`delete from fanfare.delivery`.execute(db());
    const { id } = await begin({ webhookId: hooked.id, startAfter: at(0) });
    scene.start(scene.engine.createWorker({ pollMs: 10 }));
    const program = fileURLToPath(new URL('./replay-process.ts', import.meta.url));
    const { rows } = await sql<{ name: string }>`select current_database() as name`.execute(db());
    const url = urlOfDatabase(inject('run').databaseUrl, rows[0]?.name ?? '');
    let kills = 0;
    for (let isDone = false; !isDone; isDone = (await show(id)).status === 'DONE') {
      const child = spawn(process.execPath, [program, url], { stdio: ['ignore', 'pipe', 'inherit'] });
      const exited = once(child, 'exit');
      try {
        const before = (await show(id)).created;
        await eventually(async () => {
          const { created, status } = await show(id);
          return created > before || status === 'DONE';
        });
      } finally {
        child.kill('SIGKILL');
        await exited;
      }
      kills++;
    }
    expect(kills).toBeGreaterThan(1);
    expect(await show(id)).toMatchObject({ status: 'DONE', created: 300, succeeded: 300 });
    expect(textsOf(hooked.received()).sort()).toEqual(texts(300).sort());
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
