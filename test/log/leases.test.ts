import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connectPostgres } from '../../src/database/connect.ts';
import { syncEventTypes } from '../../src/outbox/catalog.ts';
import type { Sequencer } from '../../src/outbox/sequencer.ts';
import type { Observation } from '../../src/runtime/observe.ts';
import { startTestPostgres } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { authorOf, BACKENDS, type LogDatabase, openLog } from '../support/log-database.ts';
import { logCatalog, noteWritten, written } from '../support/log-domain.ts';
import { createLeader } from '../support/log-sequencer.ts';

const LONG_LEASE_MS = 60_000;

describe.each(BACKENDS)('leases on %s', (kind) => {
  let log: LogDatabase;
  beforeAll(async () => {
    log = await openLog(kind);
  });
  beforeEach(async () => {
    await log.database.db.updateTable('fanfare.shard').set({ lease_until: sql`'-infinity'` }).execute();
    await log.database.db.deleteFrom('fanfare.process').execute();
  });
  afterAll(() => log.close());

  const leader = (owner: string, leaseMs = LONG_LEASE_MS) => createLeader(log.database, { owner, leaseMs });
  const counts = (leaders: readonly Sequencer[]) => leaders.map((each) => each.held().length);
  /** Twice round: who has more than its share gives in the first, the others take in the second. */
  const goRound = async (leaders: readonly Sequencer[]) => {
    for (const each of [...leaders, ...leaders, ...leaders]) await each.keepLeases();
  };

  it('are all held by one process that is alone', async () => {
    const alone = leader('alone');
    await alone.keepLeases();
    expect(alone.held()).toHaveLength(16);
  });

  it('are shared fairly between two, and between three, each shard by one', async () => {
    const [first, second, third] = [leader('first'), leader('second'), leader('third')];
    await goRound([first]);
    await goRound([first, second]);
    expect(counts([first, second])).toEqual([8, 8]);
    await goRound([first, second, third]);
    expect(counts([first, second, third]).toSorted()).toEqual([4, 6, 6]);
    const held = [first, second, third].flatMap((each) => each.held());
    expect(held.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 16 }, (_, id) => id));
  });

  it('that were released are taken over at once', async () => {
    const [first, second] = [leader('first'), leader('second')];
    await goRound([first, second]);
    await first.release();
    expect(first.held()).toEqual([]);
    await second.keepLeases();
    expect(second.held()).toHaveLength(16);
  });

  it('of a process that is silent for longer than the lease are taken over, and it notices', async () => {
    const observed: Observation[] = [];
    const silent = createLeader(log.database, { owner: 'silent', leaseMs: 50, observe: (each) => observed.push(each) });
    const heir = leader('heir');
    await silent.keepLeases();
    await eventually(async () => {
      await heir.keepLeases();
      return heir.held().length >= 8;
    });
    await silent.keepLeases();
    expect(observed.map(({ name }) => name)).toContain('relay.lost');
    expect(silent.held().filter((id) => heir.held().includes(id))).toEqual([]);
  });

  it('are stolen all at once where a lock says that their holder is dead', async () => {
    await leader('dead').keepLeases();
    const thief = createLeader(log.database, { owner: 'thief', leaseMs: LONG_LEASE_MS, steal: true });
    await thief.keepLeases();
    expect(thief.held()).toHaveLength(16);
  });

  it('of a process without any count no more once it released', async () => {
    const [first, late] = [leader('first'), leader('late')];
    await first.keepLeases();
    await late.keepLeases();
    expect(late.held()).toEqual([]);
    await late.release();
    await goRound([first]);
    expect(first.held()).toHaveLength(16);
  });

  it('are renewed while a stamp goes on', async () => {
    const busy = leader('busy');
    await busy.keepLeases();
    const accounts = await Promise.all(Array.from({ length: 20 }, () => log.addAccount()));
    for (let round = 0; round < 15; round++) {
      const writes = accounts.map((accountId) =>
        log.transact(authorOf(accountId), (tx) => tx.emit(noteWritten, { subjectId: 'n', payload: written('') })),
      );
      await Promise.all([busy.stampBatch(), busy.keepLeases(), ...writes]);
    }
    expect(busy.held()).toHaveLength(16);
  });
});

describe('an idle poll on a Postgres of its own', () => {
  it('writes no WAL, where the fence alone writes some (control)', async () => {
    const server = await startTestPostgres();
    const database = await connectPostgres({ url: server.url, maxConnections: 2 });
    await syncEventTypes(database, logCatalog);
    const leader = createLeader(database, { leaseMs: LONG_LEASE_MS });
    await leader.keepLeases();
    const walBytes = async (work: () => Promise<unknown>) => {
      const read = async () => {
        const { rows } = await sql<{ at: string }>`select pg_current_wal_insert_lsn() - '0/0' as at`.execute(
          database.db,
        );
        return Number(rows[0]?.at);
      };
      const before = await read();
      for (let n = 0; n < 50; n++) await work();
      return (await read()) - before;
    };
    const fence = () => sql`select id from fanfare.shard for update`.execute(database.db);
    expect(await walBytes(fence)).toBeGreaterThan(0);
    // the server's own housekeeping may write now and then: one quiet round is enough
    await eventually(async () => expect(await walBytes(() => leader.stampBatch())).toBe(0));
    await database.close();
    await server.close();
  });
});
