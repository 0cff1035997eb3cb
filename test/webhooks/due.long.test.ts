import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectPostgres, type Database } from '../../src/database/connect.ts';
import { claimDeliveries } from '../../src/webhooks/claim.ts';
import { CLAIM_LIMITS } from '../support/claims.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

/** Due deliveries, of a hundred webhooks each time. */
const FEW = 10_000;
const MANY = 1_000_000;
const WEBHOOKS = 100;
const LIMIT = 200;
const LIMITS = { ...CLAIM_LIMITS, limit: LIMIT, leaseMs: 60_000, accountCap: 1_000 };

describe('a claim', () => {
  let bed: TestDatabase;
  let database: Database;
  let few = 0;
  let fewNaive = 0;

  beforeAll(async () => {
    bed = await createTestDatabase();
    database = await connectPostgres({ url: bed.url, maxConnections: 2, statementTimeoutMs: 900_000 });
    await sql`
      insert into fanfare.webhook (id, account_id, url, description, metadata, document, variables, scopes, narrowing, live_after, backfilled_to)
      select 'wh_' || n, 'acc_default', 'http://127.0.0.1/', '', '{}', 'subscription { x }', '{}', '{}', '[]', 0, 0
      from generate_series(0, ${WEBHOOKS - 1}::int) n`.execute(database.db);
    await fill(0, FEW);
    few = await cost();
    fewNaive = await naiveCost();
    await sql`truncate fanfare.delivery, fanfare.turn`.execute(database.db);
    await fill(0, MANY);
  }, 600_000);
  afterAll(async () => {
    await database?.close();
    await bed?.drop();
  });

  it(`of ${LIMIT} touches no more among ${MANY} due deliveries than among ${FEW}`, async () => {
    const many = await cost();
    process.stdout.write(`${few} blocks among ${FEW}, ${many} among ${MANY}\n`);
    expect(many).toBeLessThanOrEqual(1.5 * few);
  });

  it('would, if it sorted what is due (control)', async () => {
    expect(await naiveCost()).toBeGreaterThan(10 * fewNaive);
  });

  async function fill(from: number, to: number): Promise<void> {
    await sql`
      insert into fanfare.delivery (account_id, id, webhook_id, seq, position, event_id, next_at, born_at)
      select 'acc_default', 'dlv_' || lpad(to_hex(n), 32, '0'), 'wh_' || n % ${WEBHOOKS}::int, n, n, 'evt_' || lpad(to_hex(n), 32, '0'),
             fanfare.now() - interval '1 hour', fanfare.now()
      from generate_series(${from + 1}::int, ${to}::int) n`.execute(database.db);
    await sql`vacuum analyze fanfare.delivery`.execute(database.db);
  }

  /** Blocks that a claim touches, the second of two: the first finds the pages as they were filled. */
  async function cost(): Promise<number> {
    let blocks = 0;
    for (let round = 0; round < 2; round++) {
      await sql`update fanfare.delivery set lease_until = null where lease_until is not null`.execute(database.db);
      const before = await readHits();
      expect(await claimDeliveries(database, LIMITS)).toHaveLength(LIMIT);
      blocks = (await readHits()) - before;
    }
    return blocks;
  }

  async function naiveCost(): Promise<number> {
    const before = await readHits();
    await sql`select id from fanfare.delivery where next_at <= fanfare.now() order by next_at, position limit 200`.execute(
      database.db,
    );
    return (await readHits()) - before;
  }

  async function readHits(): Promise<number> {
    await sql`select pg_stat_force_next_flush()`.execute(database.db);
    const { rows } = await sql<{ hits: number }>`
      select (sum(heap_blks_hit + heap_blks_read) + sum(idx_blks_hit + idx_blks_read))::int as hits
      from pg_statio_user_tables where schemaname = 'fanfare'`.execute(database.db);
    return rows[0]?.hits ?? 0;
  }
});
