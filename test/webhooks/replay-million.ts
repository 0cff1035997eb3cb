import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Kysely, sql } from 'kysely';
import type { EngineTables } from '../../src/database/tables.ts';
import type { WebhookEngine } from './webhook-engine.ts';

type Db = Kysely<EngineTables>;

const FILLED_AT_ONCE = 50_000;

/** Fills the empty log with notes, as capture and stamp leave them: one by one it would take longer than all the rest. */
export async function fillLog(db: Db, count: number): Promise<void> {
  for (let from = 1; from <= count; from += FILLED_AT_ONCE) {
    await sql`
      with written as (
        insert into fanfare.event (seq, id, account_id, name, payload_version, occurred_at, subject_type, subject_id, subject_version, changed, related, payload)
        select nextval('fanfare.event_seq'), fanfare.new_id('evt', t.at), 'acc_default', 'note.written', 1, t.at, 'Note', 'note_' || n, 1, '{}', '{}',
               jsonb_build_object('note', jsonb_build_object('noteId', 'note_' || n, 'text', 'x'))
        from (select date_trunc('milliseconds', fanfare.now()) as at offset 0) t
        cross join generate_series(${from}::int, ${Math.min(from + FILLED_AT_ONCE - 1, count)}::int) n
        returning seq, occurred_at
      )
      insert into fanfare.log (shard, shard_offset, account_id, position, seq, stamped_at)
      select fanfare.shard_of('acc_default'), w.seq, 'acc_default', ${from}::int - 1 + row_number() over (order by w.seq), w.seq, w.occurred_at from written w
    `.execute(db);
  }
  await sql`insert into fanfare.head (account_id, position) values ('acc_default', ${count})`.execute(db);
  await sql`update fanfare.shard set head = (select max(seq) from fanfare.log) where id = fanfare.shard_of('acc_default')`.execute(
    db,
  );
}

/**
 * Stands in for worker and receiver: records what is open of a run as arrived, by one statement, after no attempt, by which it is known.
 * @returns how many
 */
export async function standIn(db: Db, run: string): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    with gone as (
      delete from fanfare.delivery d where d.run = ${run} and d.attempts = 0 returning d.*
    ), done as (
      insert into fanfare.delivery_done (account_id, id, webhook_id, seq, position, event_id, status, generation, attempts, born_at, finished_at, run)
      select g.account_id, g.id, g.webhook_id, g.seq, g.position, g.event_id, 'SUCCEEDED', g.generation, 0, g.born_at, fanfare.now(), g.run
      from gone g returning 1
    )
    select count(*)::int as count from done`.execute(db);
  return rows[0]?.count ?? 0;
}

export interface Sink {
  readonly url: string;
  /** How often each position was asked for. */
  readonly positions: Uint8Array;
  requests(): number;
  close(): Promise<unknown>;
}

/** A receiver that counts requests and keeps none; it refuses one in `refuses`, the first time. */
export async function openSink(
  { services }: WebhookEngine,
  { positions: count, refuses }: { readonly positions: number; readonly refuses: number },
): Promise<Sink> {
  const positions = new Uint8Array(count + 1);
  let requests = 0;
  const server = createServer((request, response) => {
    request.resume().on('end', () => {
      requests++;
      const at = services.cursors.decode('acc_default', String(request.headers['fanfare-cursor']));
      const position = at.kind === 'position' ? at.position : 0;
      const isFirst = positions[position] === 0;
      positions[position] = (positions[position] ?? 0) + 1;
      response.writeHead(isFirst && position % refuses === 0 ? 500 : 204).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo; // it listens on TCP
  const close = () => new Promise((resolve) => server.close(resolve));
  return { url: `http://127.0.0.1:${port}/`, positions, requests: () => requests, close };
}

/** Pages that this database has touched: what a busy machine does not change. Of sessions that rest, up to a second late. */
export async function readPages(db: Db): Promise<number> {
  const { rows } = await sql<{ pages: number }>`
    select (blks_hit + blks_read)::float8 as pages from pg_stat_database where datname = current_database()`.execute(
    db,
  );
  return rows[0]?.pages ?? 0;
}

/** What the records say of a run. */
export interface RunRecord {
  readonly deliveries: number;
  /** Different ones. */
  readonly positions: number;
  readonly succeeded: number;
  readonly first: number;
  readonly last: number;
  /** Births at a moment with a position before one of an earlier moment. */
  readonly late: number;
}

export async function readRun(db: Db, run: string): Promise<RunRecord | undefined> {
  const { rows } = await sql<RunRecord>`
    with of_run as materialized (select position, status, born_at from fanfare.delivery_done where run = ${run}),
    at_once as (
      select min(position) as first, lag(max(position)) over (order by born_at) as before from of_run group by born_at
    )
    select count(*)::int as deliveries, count(distinct position)::int as positions, count(*) filter (where status = 'SUCCEEDED')::int as succeeded,
           min(position)::int as first, max(position)::int as last, (select count(*)::int from at_once where first < before) as late
    from of_run`.execute(db);
  return rows[0];
}

/** Positions of a run that were sent by requests, with how many attempts each took. */
export async function readSent(
  db: Db,
  run: string,
): Promise<readonly { readonly position: number; readonly attempts: number }[]> {
  const { rows } = await sql<{ position: number; attempts: number }>`
    select position::int as position, attempts from fanfare.delivery_done where run = ${run} and attempts > 0 order by position`.execute(
    db,
  );
  return rows;
}
