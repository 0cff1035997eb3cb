import { sql } from 'kysely';
import { describe, expect, it } from 'vitest';
import type { Database } from '../../src/database/connect.ts';
import { countReads } from '../support/count-reads.ts';
import { eventually } from '../support/eventually.ts';
import { useWebhookScene } from './webhook-scene.ts';

describe('cancelling open deliveries', () => {
  const scene = useWebhookScene();
  const database = () => scene.engine.services.database;

  const cancelUnwanted = ({ db }: Pick<Database, 'db'>, webhookId: string) =>
    sql<{ count: number }>`select fanfare.cancel_unwanted(${scene.accountId}, ${webhookId}, 'tested') as count`.execute(
      db,
    );
  const cancelDeleted = ({ db }: Pick<Database, 'db'>, webhookId: string) =>
    sql<{ count: number }>`select fanfare.cancel_deleted(${webhookId}, 'tested', 1000) as count`.execute(db);

  /** Open ones of events that are gone, which no webhook asks for. */
  async function open(webhookId: string, count: number): Promise<void> {
    await sql`
      insert into fanfare.delivery (account_id, id, webhook_id, seq, position, event_id, next_at, born_at)
      select ${scene.accountId}, fanfare.new_id('dlv', now()), ${webhookId}, 1000000000 + n, n, 'evt_' || n, 'infinity', now()
      from generate_series(1, ${count}::int) n`.execute(database().db);
  }

  async function records(webhookId: string) {
    const { rows } = await sql`
      select status, error, attempts, finished_at is not null as "isDone" from fanfare.delivery_record where webhook_id = ${webhookId}
    `.execute(database().db);
    return rows;
  }

  it('takes what a transaction that it waits for has made of them', async () => {
    const { id } = await scene.hook();
    await open(id, 1);
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    const { promise: locked, resolve: hold } = Promise.withResolvers<void>();
    const changing = database().transaction(async (tx) => {
      await sql`update fanfare.delivery set attempts = 3, next_at = now() where webhook_id = ${id}`.execute(tx);
      hold();
      await held;
    });
    await locked;
    const cancelling = cancelUnwanted(database(), id);
    try {
      await eventually(async () => {
        const { rows } = await sql`
          select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%cancel_unwanted%'
        `.execute(database().db);
        expect(rows).toHaveLength(1);
      });
    } finally {
      release();
      await changing;
    }
    expect((await cancelling).rows).toEqual([{ count: 1 }]);
    expect(await records(id)).toEqual([{ status: 'CANCELLED', error: 'tested', attempts: 3, isDone: true }]);
  });

  it('would miss them by the places of before that (control)', async () => {
    const { id } = await scene.hook();
    await open(id, 1);
    const { rows } = await sql<{ count: number }>`
      with before as materialized (select array_agg(d.ctid) as places from fanfare.delivery d where d.webhook_id = ${id}),
      changed as (update fanfare.delivery set attempts = 3 where webhook_id = ${id} returning 1)
      select b.places::text[] as places from before b, changed`.execute(database().db);
    const { places } = rows[0] as unknown as { places: string[] }; // what was selected
    const missed = await sql`select fanfare.cancel_locked(${places}::text[]::tid[], 'tested') as count`.execute(
      database().db,
    );
    expect(missed.rows).toEqual([{ count: 0 }]);
    expect(await records(id)).toMatchObject([{ attempts: 3, isDone: false }]);
  });

  it('reads what it cancels, however many others are open', async () => {
    const [ours, others] = [await scene.hook(), await scene.hook()];
    await open(ours.id, 1_000);
    await open(others.id, 20_000);
    const unwanted = await countReads(database(), async (within) => {
      expect((await cancelUnwanted(within, ours.id)).rows).toEqual([{ count: 1_000 }]);
    });
    expect(unwanted).toBeLessThan(20 * 1_000); // each with all of the others: 20 million
    await open(ours.id, 2_500);
    await sql`insert into fanfare.deleted_webhook (id, account_id) values (${ours.id}, ${scene.accountId})`.execute(
      database().db,
    );
    const deleted = await countReads(database(), async (within) => {
      expect((await cancelDeleted(within, ours.id)).rows).toEqual([{ count: 1_000 }]);
    });
    expect(deleted).toBeLessThan(20 * 1_000);
    expect((await cancelDeleted(database(), ours.id)).rows).toEqual([{ count: 1_000 }]);
    expect((await cancelDeleted(database(), ours.id)).rows).toEqual([{ count: 500 }]);
    expect((await cancelDeleted(database(), ours.id)).rows).toEqual([{ count: 0 }]);
    expect(await records(others.id)).toHaveLength(20_000);
  });
});
