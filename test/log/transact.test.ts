import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, expectTypeOf, it } from 'vitest';
import type { Database } from '../../src/database/connect.ts';
import type { Tx } from '../../src/outbox/transact.ts';
import { VersionConflict } from '../../src/outbox/version-conflict.ts';
import { eventually } from '../support/eventually.ts';
import { authorOf, BACKENDS, type LogDatabase, openLog, transactOn, wholeLog } from '../support/log-database.ts';
import { noteEdited, noteWritten, written } from '../support/log-domain.ts';
import { stampAll } from '../support/log-sequencer.ts';
import { withClient } from '../support/postgres-client.ts';

describe.each(BACKENDS)('transact on %s', (kind) => {
  let log: LogDatabase;
  let accountId: string;
  beforeAll(async () => {
    log = await openLog(kind);
    accountId = await log.addAccount();
    await sql`create table pad (id text primary key, n int not null)`.execute(log.database.db);
    await sql`insert into pad values ('a', 0), ('b', 0)`.execute(log.database.db);
  });
  afterAll(() => log.close());

  const change = <R>(work: (tx: Tx) => Promise<R>) => log.transact(authorOf(accountId), work);
  const emitOn = (tx: Tx, subjectId: string) => tx.emit(noteWritten, { subjectId, payload: written(subjectId) });
  const failing = (code: string) => Object.assign(new Error(`failed with ${code}`), { code });

  it('commits a change with its events, or neither', async () => {
    const account = await log.addAccount();
    const tell: string[] = [];
    const transact = transactOn(log.database, { onCaptured: () => tell.push('captured') });
    const kept = await transact(authorOf(account), async (tx) => {
      await sql`update pad set n = n + 1 where id = 'a'`.execute(tx.db);
      return emitOn(tx, 'kept');
    });
    const lost = transact(authorOf(account), async (tx) => {
      await sql`update pad set n = n + 1 where id = 'a'`.execute(tx.db);
      await emitOn(tx, 'lost');
      throw new Error('changed its mind');
    });
    await expect(lost).rejects.toThrow('changed its mind');
    await transact(authorOf(account), async () => 'nothing');
    await stampAll(log.database);
    expect((await wholeLog(log.database, account)).map(({ id }) => id)).toEqual([kept.lastEventId]);
    const { rows } = await sql<{ n: number }>`select n from pad where id = 'a'`.execute(log.database.db);
    expect(rows).toEqual([{ n: 1 }]);
    expect(tell).toEqual(['captured']);
  });

  it('does not take for committed what a swallowed failure has rolled back', async () => {
    const swallowing = change(async (tx) => {
      await emitOn(tx, 'swallowed');
      await sql`select 1 / 0`.execute(tx.db).catch(() => {});
    });
    await expect(swallowing).rejects.toThrow();
    const rows = await log.database.db
      .selectFrom('fanfare.subject')
      .select('id')
      .where('id', '=', 'swallowed')
      .execute();
    expect(rows).toEqual([]);
  });

  it('can not be used when it is over', async () => {
    let kept: Tx | undefined;
    await change(async (tx) => {
      kept = tx;
    });
    await expect(Promise.resolve(kept && emitOn(kept, 'late'))).rejects.toThrow();
    await expect(Promise.resolve(kept && sql`select 1`.execute(kept.db))).rejects.toThrow();
  });

  it.each(['40001', '40P01'])('runs again after %s, at most 3 times, then gives UNAVAILABLE', async (code) => {
    let runs = 0;
    const { result } = await change(async () => {
      runs += 1;
      if (runs <= 3) throw failing(code);
      return runs;
    });
    expect(result).toBe(4);
    runs = 0;
    const hopeless = change(async () => {
      runs += 1;
      throw failing(code);
    });
    await expect(hopeless).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(runs).toBe(4);
  });

  it.each([
    ['a payload over 256 KiB', { subjectId: 'n', payload: written('x'.repeat(262_144)) }, 'BAD_INPUT'],
    ['a text with U+0000', { subjectId: 'n', payload: written('a\u0000b') }, 'BAD_INPUT'],
    ['an id with U+0000', { subjectId: 'n\u0000', payload: written('') }, 'BAD_INPUT'],
  ])('refuses %s as the client’s fault', async (_what, emission, code) => {
    await expect(change((tx) => tx.emit(noteWritten, emission))).rejects.toMatchObject({ code });
  });

  it('keeps half of a surrogate pair as U+FFFD', async () => {
    const account = await log.addAccount();
    await log.transact(authorOf(account), (tx) =>
      tx.emit(noteWritten, { subjectId: 'n', payload: written('a\ud83d\\ud83d') }),
    );
    await stampAll(log.database);
    expect(await wholeLog(log.database, account)).toMatchObject([{ payload: { text: 'a\ufffd\\ud83d' } }]);
  });

  it('refuses a payload that breaks its schema, and lets the types say so before', async () => {
    await change(async (tx) => {
      // @ts-expect-error a text is not a number
      await expect(tx.emit(noteWritten, { subjectId: 'n', payload: { ...written(''), text: 7 } })).rejects.toThrow(
        /text/,
      );
      // @ts-expect-error an update names what changed
      await expect(tx.emit(noteEdited, { subjectId: 'n', payload: { text: '' } })).rejects.toMatchObject({
        code: 'FF007',
      });
    }).catch(() => {});
    expectTypeOf<Parameters<Tx['emit']>[1]>().toHaveProperty('subjectId');
  });

  it('expects a version, or nothing', async () => {
    await change((tx) => emitOn(tx, 'versioned'));
    const expecting = (expected: number | null | undefined) =>
      change((tx) => tx.expectVersion('Note', 'versioned', expected));
    await expecting(1);
    await expecting(null);
    await expecting(undefined);
    await expect(expecting(2)).rejects.toThrow(VersionConflict);
    await expect(expecting(0)).rejects.toMatchObject({
      expectedVersion: 0,
      currentVersion: 1,
      code: 'VERSION_CONFLICT',
    });
    const unseen = change((tx) => tx.expectVersion('Note', 'unseen', 3));
    await expect(unseen).rejects.toMatchObject({ currentVersion: 0 });
  });

  it.each(['versioned_0', 'versioned_1'])(
    'lets one of two win that expect the same version of %s',
    async (subjectId) => {
      const expected = Number(subjectId.at(-1));
      if (expected === 1) await change((tx) => emitOn(tx, subjectId));
      const edit = () =>
        change(async (tx) => {
          await tx.expectVersion('Note', subjectId, expected);
          await emitOn(tx, subjectId);
        });
      const outcomes = await Promise.allSettled([edit(), edit(), edit()]);
      expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected', 'rejected']);
      const reasons = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
      for (const reason of reasons) expect(reason).toBeInstanceOf(VersionConflict);
    },
  );

  it.each<[string, (database: Database) => Promise<unknown>]>([
    ['a statement', ({ db }) => db.selectFrom('fanfare.account').selectAll().execute()],
    ['a raw statement', ({ db }) => sql`select 1`.execute(db)],
    ['a transaction', (database) => database.transaction(async () => {})],
    ['another change', () => change(async () => {})],
  ])('throws at once when %s is started beside it', async (_what, use) => {
    const started = performance.now();
    await expect(change(() => use(log.database))).rejects.toThrow(
      'another database handle was used inside a transaction',
    );
    expect(performance.now() - started).toBeLessThan(20_000);
    await use(log.database);
  });
});

describe('transact on Postgres', () => {
  let log: LogDatabase;
  let accountId: string;
  beforeAll(async () => {
    log = await openLog('postgres');
    accountId = await log.addAccount();
  });
  afterAll(() => log.close());

  it('survives a deadlock: both changes are made, one of them again', async () => {
    const met = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
    const winnerIsDone = Promise.withResolvers<void>();
    let runs = 0;
    const change = async (mine: 0 | 1) => {
      await log.transact(authorOf(accountId), async (tx) => {
        runs += 1;
        // the loser's second try could be quick enough to take its first row before the winner has got it
        if (runs > 2) await winnerIsDone.promise;
        await tx.emit(noteWritten, { subjectId: `dead_${mine}`, payload: written('') });
        met[mine].resolve();
        await met[mine === 0 ? 1 : 0].promise;
        await tx.emit(noteWritten, { subjectId: `dead_${mine === 0 ? 1 : 0}`, payload: written('') });
      });
      winnerIsDone.resolve();
    };
    await Promise.all([change(0), change(1)]);
    expect(runs).toBe(3);
    await stampAll(log.database);
    const versions = (await wholeLog(log.database, accountId)).map((event) => [event.subjectId, event.subjectVersion]);
    expect(versions.toSorted()).toEqual([
      ['dead_0', 1],
      ['dead_0', 2],
      ['dead_1', 1],
      ['dead_1', 2],
    ]);
  });

  const backendOf = async (tx: Tx) => {
    const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(tx.db);
    return rows[0]?.pid ?? 0;
  };
  const terminate = (pid: number) =>
    withClient(log.url, (client) => client.query('select pg_terminate_backend($1)', [pid]));

  it('gives UNAVAILABLE when its connection is killed at the commit', async () => {
    await sql`create table gate (id int)`.execute(log.database.db);
    await sql`create function wait_at_commit() returns trigger language plpgsql as 'begin perform pg_advisory_xact_lock(1); return null; end'`.execute(
      log.database.db,
    );
    await sql`create constraint trigger gate after insert on gate deferrable initially deferred for each row execute function wait_at_commit()`.execute(
      log.database.db,
    );
    await withClient(log.url, async (holder) => {
      await holder.query('select pg_advisory_lock(1)');
      const pid = Promise.withResolvers<number>();
      const change = log.transact(authorOf(accountId), async (tx) => {
        pid.resolve(await backendOf(tx));
        await tx.emit(noteWritten, { subjectId: 'at_commit', payload: written('') });
        await sql`insert into gate values (1)`.execute(tx.db);
      });
      const outcome = expect(change).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      const victim = await pid.promise;
      await eventually(async () => {
        const { rows } = await holder.query(
          'select query from pg_stat_activity where pid = $1 and wait_event_type = $2',
          [victim, 'Lock'],
        );
        return rows[0]?.query === 'commit';
      });
      await terminate(victim);
      await outcome;
    });
  });

  it('gives UNAVAILABLE when its connection is killed during a statement', async () => {
    const pid = Promise.withResolvers<number>();
    const change = log.transact(authorOf(accountId), async (tx) => {
      pid.resolve(await backendOf(tx));
      await sql`select pg_sleep(20)`.execute(tx.db);
    });
    const outcome = expect(change).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await terminate(await pid.promise);
    await outcome;
  });

  it('gives UNAVAILABLE when its connection is killed between two statements', async () => {
    const change = log.transact(authorOf(accountId), async (tx) => {
      const pid = await backendOf(tx);
      await terminate(pid);
      await eventually(async () => {
        await withClient(log.url, async (client) => {
          const { rowCount } = await client.query('select 1 from pg_stat_activity where pid = $1', [pid]);
          expect(rowCount).toBe(0);
        });
      });
      await tx.emit(noteWritten, { subjectId: 'between', payload: written('') });
    });
    await expect(change).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });
});
