import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { sql } from 'kysely';
import { describe, expect, inject, it } from 'vitest';
import { runReplays, stepReplay } from '../../src/webhooks/replayer.ts';
import { countReads } from '../support/count-reads.ts';
import { eventually } from '../support/eventually.ts';
import { urlOfDatabase } from '../support/postgres-client.ts';
import { useReplayScene } from './replay-scene.ts';
import { textsOf, workOff } from './webhook-engine.ts';

describe('a replay', () => {
  const { scene, db, at, ask, begin, change, show, texts, write, writeAndSend, finish, positionsOf } = useReplayScene();
  const { hook } = scene;

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

  it('is cancelled and opened again by its own deliveries, however many others are open', async () => {
    const { id: webhookId } = await hook();
    await write('again and again');
    const { id } = await begin({ webhookId, startAfter: at(0) });
    // waiting, as 2,000 of the replay's and 20,000 others
    await sql`
      insert into fanfare.delivery (account_id, id, webhook_id, seq, position, event_id, next_at, born_at, run)
      select ${scene.accountId}, fanfare.new_id('dlv', fanfare.now()), ${webhookId}, d.seq, d.position, d.event_id, 'infinity', fanfare.now(),
             case when n <= 2000 then ${id} end
      from fanfare.delivery d cross join generate_series(1, 22000) n where d.webhook_id = ${webhookId}
    `.execute(db());
    await sql`update fanfare.replay set created = 2000 where id = ${id}`.execute(db());
    const { database } = scene.engine.services;
    const call = (name: string) =>
      countReads(database, async (within) => {
        const { rows } = await sql<{ count: number }>`
          select ${sql.ref(`fanfare.${name}`)}(${scene.accountId}, ${id}, 'tested') as count`.execute(within.db);
        expect(rows).toEqual([{ count: 2_000 }]);
      });
    expect(await call('cancel_run')).toBeLessThan(20 * 2_000); // each with all of the others: 40 million
    expect(await show(id)).toMatchObject({ created: 2_000, pending: 0, cancelled: 2_000 });
    expect(await call('reopen_run')).toBeLessThan(20 * 2_000);
    expect(await show(id)).toMatchObject({ created: 2_000, pending: 2_000, cancelled: 0 });
    expect(await call('cancel_run')).toBeLessThan(20 * 2_000);
  });

  it('is resumed by what was cancelled with it, however much it has sent', async () => {
    const { id: webhookId } = await hook();
    await write('again and again');
    const { id } = await begin({ webhookId, startAfter: at(0) });
    // of the replay 20,000 that have arrived and 20 that were cancelled with it
    await sql`
      insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, error, generation, attempts, born_at, finished_at, run)
      select ${scene.accountId}, fanfare.new_id('dlv', fanfare.now()), ${webhookId}, d.seq, d.position, d.event_id,
             case when n <= 20 then 'CANCELLED' else 'SUCCEEDED' end, case when n <= 20 then 'tested' end, 1, 1, fanfare.now(), fanfare.now(), ${id}
      from fanfare.delivery d cross join generate_series(1, 20020) n where d.webhook_id = ${webhookId}
    `.execute(db());
    const { database } = scene.engine.services;
    const reopen = () =>
      countReads(
        database,
        async (within) => {
          const { rows } = await sql<{ count: number }>`
            select fanfare.reopen_run(${scene.accountId}, ${id}, 'tested') as count`.execute(within.db);
          expect(rows).toEqual([{ count: 20 }]);
        },
        'fanfare.delivery_done',
      );
    expect(await reopen()).toBeLessThan(20 * 20);
    await sql`select fanfare.cancel_run(${scene.accountId}, ${id}, 'tested')`.execute(db());
    // the control: by the run alone
    await sql`drop index fanfare.delivery_done_cancelled`.execute(db());
    try {
      expect(await reopen()).toBeGreaterThan(20_000);
    } finally {
      await sql`create index delivery_done_cancelled on fanfare.delivery_done (run, id) where run is not null and status = 'CANCELLED'`.execute(
        db(),
      );
    }
  });

  it('looks for what is missing by the event, however many deliveries its webhook has, and no further than it has room for', async () => {
    const { id: webhookId } = await hook();
    await write(...texts(200));
    await sql`
      insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, generation, attempts, born_at, finished_at)
      select ${scene.accountId}, fanfare.new_id('dlv', fanfare.now()), ${webhookId}, d.seq, d.position, 'evt_' || n,
             'SUCCEEDED', 1, 1, fanfare.now(), fanfare.now()
      from (select * from fanfare.delivery d where d.webhook_id = ${webhookId} limit 1) d cross join generate_series(1, 20000) n
    `.execute(db());
    await sql`delete from fanfare.delivery`.execute(db());
    const { id } = await begin({ webhookId, startAfter: at(0), missing: true });
    const step = (table: string) =>
      countReads(
        scene.engine.services.database,
        async (within) => {
          expect(await stepReplay(within.db, { replayId: id })).toMatchObject({ looked: 16, born: 16 });
        },
        table,
      );
    expect(await step('fanfare.delivery_done')).toBe(0); // by the webhook 20,000 for each event
    await sql`update fanfare.replay set room = 32 where id = ${id}`.execute(db());
    expect(await step('fanfare.event')).toBeLessThan(3 * 16); // sorted, all that were read of the log: 184
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
      await eventually(
        async () => expect(await show(id)).toMatchObject({ status: 'DONE', created: 200, succeeded: 200 }),
        { deadlineMs: 90_000 },
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
