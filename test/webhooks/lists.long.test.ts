import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectPostgres, type Database } from '../../src/database/connect.ts';
import { selectAttempts } from '../../src/webhooks/attempt-filter.ts';
import { selectDeliveries } from '../../src/webhooks/delivery-fields.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

/** In turns over ten webhooks and five days. Every tenth failed: half by a 500, half without an answer. */
const FEW = 10_000;
/** Ten millions by `FANFARE_ROWS=10000000`, some minutes and 8 GB. */
const MANY = Number(process.env.FANFARE_ROWS ?? 2_000_000);
const PAGE = 20;
const ACCOUNT = 'acc_default';
const WEBHOOK = 'wh_3';
/** In the midst of the five days. */
const MIDST_MS = 2.5 * 86_400_000;

type Read = Parameters<typeof selectAttempts>[0];
type List = (db: Read, midst: Date) => unknown;

const LISTS: Readonly<Record<string, List>> = {
  'attempts of a webhook': (db) => attempts(db, {}),
  'its failed attempts': (db) => attempts(db, { failed: true }),
  'its attempts that succeeded': (db) => attempts(db, { failed: false }),
  'its attempts of a status': (db) => attempts(db, { statusCode: 500 }),
  'its attempts up to a time': (db, midst) => attempts(db, { until: midst }),
  'its failed attempts from a time on': (db, midst) => attempts(db, { failed: true, since: midst }),
  'all deliveries': (db) => selectDeliveries(db, ACCOUNT, {}),
  'deliveries of a webhook': (db) => selectDeliveries(db, ACCOUNT, { webhookId: WEBHOOK }),
  'deliveries up to a time': (db, midst) => selectDeliveries(db, ACCOUNT, { until: midst }),
  'deliveries that failed': (db) => selectDeliveries(db, ACCOUNT, { statuses: ['EXHAUSTED'] }),
};

/** What no index serves. */
const UNSERVED: List = (db) => attempts(db, {}).where('reason', 'is not', null);

function attempts(db: Read, filter: Parameters<typeof selectAttempts>[2]) {
  return selectAttempts(db, { accountId: ACCOUNT, webhookId: WEBHOOK }, filter);
}

describe('lists of what was sent', () => {
  let bed: TestDatabase;
  let database: Database;
  let midst: Date;
  const few = new Map<List, number>();

  beforeAll(async () => {
    bed = await createTestDatabase();
    database = await connectPostgres({ url: bed.url, maxConnections: 2, statementTimeoutMs: 900_000 });
    const { rows } = await sql<{ now: Date }>`select date_trunc('day', fanfare.now()) as now`.execute(database.db);
    midst = new Date((rows[0]?.now.getTime() ?? 0) + MIDST_MS);
    await fill(0, FEW);
    for (const list of [...Object.values(LISTS), UNSERVED]) few.set(list, await pageCost(list));
    await fill(FEW, MANY);
  }, 900_000);
  afterAll(async () => {
    await database?.close();
    await bed?.drop();
  });

  it.each(Object.entries(LISTS))(`${MANY} cost a page of %s no more than ${FEW} do`, async (_what, list) => {
    expect(await pageCost(list)).toBeLessThanOrEqual(1.5 * (few.get(list) ?? 0));
  });

  it('cost a page far more where no index serves it (negative control)', async () => {
    expect(await pageCost(UNSERVED)).toBeGreaterThan(10 * (few.get(UNSERVED) ?? 0));
  });

  /** Rows from number `from` up to `to`, evenly over time, so that both sizes have the same shape. */
  async function fill(from: number, to: number): Promise<void> {
    const rows = sql`
      select n, 'wh_' || n % 10 as webhook_id, n % 100 < 10 as has_failed, n % 200 < 10 as has_answer, at,
             lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0') || lpad(to_hex(n), 20, '0') as tail
      from (select n, date_trunc('day', fanfare.now()) + (n - ${from}) * (interval '5 days' / ${to - from}) as at
            from generate_series(${from}::int, ${to - 1}::int) as n) as each`;
    await sql`
      insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, generation, attempts, born_at, finished_at)
      select ${ACCOUNT}, 'dlv_' || tail, webhook_id, n + 1, n + 1, 'evt_' || tail, case when has_failed then 'EXHAUSTED' else 'SUCCEEDED' end, 1, 1, at, at
      from (${rows}) as r`.execute(database.db);
    await sql`
      insert into fanfare.attempt (account_id, delivery_id, number, started_at, duration_ms, status_code, error_class, response_headers,
                                   response_body, is_truncated, born_at, id, webhook_id, body_hash)
      select ${ACCOUNT}, 'dlv_' || tail, 1, at, 3, case when not has_failed then 200 when has_answer then 500 end,
             case when has_answer then 'HTTP_STATUS' when has_failed then 'RESET' end, '{}', 'ok', false, at, 'att_' || tail, webhook_id, sha256(tail::bytea)
      from (${rows}) as r`.execute(database.db);
    await sql`vacuum analyze fanfare.attempt, fanfare.delivery_done, fanfare.delivery`.execute(database.db);
  }

  /** Blocks that the newest page touches, as `page` of the graph cuts it. Blocks, since times are not steady on a busy machine. */
  async function pageCost(list: List): Promise<number> {
    // all are queries of rows that have an id; the graph's database has no writing methods
    const query = list(database.db as unknown as Read, midst) as ReturnType<typeof attempts>;
    const page = query.orderBy('id', 'desc').limit(PAGE + 1);
    const [plan] = await page.explain<{ 'QUERY PLAN': [{ Plan: Plan }] }>('json', sql`analyze, buffers`);
    const { Plan: top } = plan?.['QUERY PLAN'][0] ?? expect.fail('no plan');
    if (list !== UNSERVED) expect(top['Actual Rows']).toBe(PAGE + 1);
    return top['Shared Hit Blocks'] + top['Shared Read Blocks'];
  }
});

interface Plan {
  readonly 'Actual Rows': number;
  readonly 'Shared Hit Blocks': number;
  readonly 'Shared Read Blocks': number;
}
