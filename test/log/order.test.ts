import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readEvents } from '../../src/outbox/read.ts';
import { authorOf, BACKENDS, type LogDatabase, openLog } from '../support/log-database.ts';
import { noteWritten, written } from '../support/log-domain.ts';
import { expectFaithfulLog, runInterleaved } from '../support/log-interleaving.ts';
import { createLeader, drain } from '../support/log-sequencer.ts';

describe('a transaction that commits late (Postgres)', () => {
  let log: LogDatabase;
  beforeAll(async () => {
    log = await openLog('postgres');
  });
  afterAll(() => log.close());

  /** A emits and waits, B emits and commits, readers read, A commits, readers read. */
  async function commitLate(
    read: () => Promise<void>,
  ): Promise<{ readonly accountId: string; readonly ids: string[] }> {
    const accountId = await log.addAccount();
    const emitted = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    const emit = (text: string, then: () => Promise<void>) =>
      log.transact(authorOf(accountId), async (tx) => {
        await tx.emit(noteWritten, { subjectId: `note_${text}`, payload: written(text) });
        await then();
      });
    const first = emit('a', async () => {
      emitted.resolve();
      await go.promise;
    });
    await emitted.promise;
    const second = await emit('b', async () => {});
    await read();
    go.resolve();
    const { lastEventId } = await first;
    await read();
    return { accountId, ids: [second.lastEventId ?? '', lastEventId ?? ''] };
  }

  it('is seen by a reader by cursor, in a gapless order', async () => {
    const leader = createLeader(log.database);
    await leader.keepLeases();
    const seen: { id: string; position: number }[] = [];
    let accountId = '';
    const before = await log.database.db.selectFrom('fanfare.account').select('id').execute();
    const read = async () => {
      await drain(leader);
      const accounts = await log.database.db.selectFrom('fanfare.account').select('id').execute();
      accountId = accounts.find(({ id }) => !before.some((old) => old.id === id))?.id ?? '';
      const after = seen.at(-1)?.position ?? 0;
      seen.push(...(await readEvents(log.database.db, { accountId, filters: [], after, limit: 10 })));
    };
    const { ids } = await commitLate(read);
    expect(seen.map(({ id }) => id)).toEqual(ids);
    expect(seen.map(({ position }) => position)).toEqual([1, 2]);
    await leader.release();
  });

  it('is missed by a reader by serial id (control)', async () => {
    const seen: { seq: number; id: string }[] = [];
    const { ids } = await commitLate(async () => {
      const after = seen.at(-1)?.seq ?? (await firstSeqOfTest());
      const { rows } = await sql<{ seq: number; id: string }>`
        select seq, id from fanfare.event where seq > ${after} order by seq`.execute(log.database.db);
      seen.push(...rows);
    });
    expect(seen.map(({ id }) => id)).toEqual(ids.slice(0, 1));
  });

  let firstSeq: number | undefined;
  /** Behind what other tests of this file wrote: A's seq is the one after. */
  async function firstSeqOfTest(): Promise<number> {
    const { rows } = await sql<{ seq: number }>`select last_value - 2 as seq from fanfare.event_seq`.execute(
      log.database.db,
    );
    firstSeq ??= rows[0]?.seq ?? 0;
    return firstSeq;
  }
});

describe.each(BACKENDS)('64 interleaved transactions on %s', (kind) => {
  let log: LogDatabase;
  beforeAll(async () => {
    log = await openLog(kind, { maxConnections: 70 });
  });
  afterAll(() => log.close());

  it('are numbered without gap, each committed event once, versions with positions', async () => {
    const run = await runInterleaved(log, { seed: 20_261, writers: 64, transactionsEach: kind === 'postgres' ? 6 : 2 });
    expect(run.rolledBack.length).toBeGreaterThan(10);
    await expectFaithfulLog(log.database, run);
    expect(run.seenByCursor).toEqual(run.logged);
    // The control: the same writers lose events for a reader by serial id. PGlite runs one transaction at a time.
    if (kind === 'postgres') expect(run.lostBySerialId).toBeGreaterThan(0);
  });
});
