import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { sql } from 'kysely';
import { type Migration, Migrator } from 'kysely/migration';
import { expect, inject, it, onTestFinished } from 'vitest';
import { connectPostgres, type Database } from '../../src/database/connect.ts';
import { migrate } from '../../src/database/migrate.ts';
import { claimDeliveries } from '../../src/webhooks/claim.ts';
import { CLAIM_LIMITS } from '../support/claims.ts';
import { urlOfDatabase, withClient } from '../support/postgres-client.ts';

const ENGINE = new URL('../../migrations/engine/', import.meta.url);
/** The last migration of the release that its rows are from. */
const EARLIER = '0009_partitions_apart';
/** What databases have run is never run again: a change belongs into a migration of its own. */
const RELEASED: Readonly<Record<string, string>> = {
  '0001_accounts.ts': '8db2cf655483e8d0',
  '0002_log.ts': 'c4868c6bb697a335',
  '0003_emit.ts': '276ad4c49f06867f',
  '0004_sequencer.ts': '5fc02b8ba9382aba',
  '0005_webhooks.ts': '484d4c46a14f0960',
  '0006_plans.ts': 'a1088a720acd8a81',
  '0007_consumers.ts': 'd19f466b6b1d5203',
  '0008_stamp_by_day.ts': '19a8de0e643746cd',
  '0009_partitions_apart.ts': 'cd20eece0ece8d97',
  '0010_delivery_contract.ts': '362896fcacaba93a',
  '0011_consumer_triggers.ts': 'cbe695fdd97c8fff',
  '0012_lanes.ts': 'e7cc02c47a2a708a',
  '0013_evidence.ts': '8f240b8311296913',
  '0014_webhook_headers.ts': 'c3ca1d73668ae9e9',
  '0015_replays.ts': '22f4257f16fee15c',
  '0016_engine_events.ts': '5f320974b2448b8e',
  '0017_known_work.ts': '9e0d4d476f70c71b',
  '0018_runs.ts': '1e3b9ad5f1849fa6',
  '0019_farewell.ts': 'ff451fa992696dbb',
};
it('a database of an earlier release, with rows, is brought forward and goes on', async () => {
  const database = await openEmpty();
  await sql`create schema fanfare`.execute(database.db);
  await migrateTo(database, EARLIER);
  await sql`
    insert into fanfare.consumer (id, account_id, name, epoch, types, narrowing, leased_to)
    select 'cns_1', 'acc_default', 'old', epoch, array['note.written'], '[]', 0 from fanfare.installation
  `.execute(database.db);
  await sql`
    insert into fanfare.webhook (id, account_id, url, description, metadata, event_types, variables, scopes, narrowing, live_after, backfilled_to)
    values ('wh_1', 'acc_default', 'https://example.com/', '', '{}', array['note.written'], '{}', array['events:read'], '[]', 0, 0)
  `.execute(database.db);
  await sql`
    insert into fanfare.delivery (account_id, id, webhook_id, seq, position, next_at, step, attempts, born_at)
    values ('acc_default', 'dlv_1', 'wh_1', 1, 1, now(), 1, 1, now())
  `.execute(database.db);
  await migrate(database);

  const { db } = database;
  const consumer = await db.selectFrom('fanfare.consumer_state').selectAll().executeTakeFirstOrThrow();
  expect(consumer).toMatchObject({ id: 'cns_1', types: ['note.written'], triggers: null, position: 0, head: 0 });
  const { rows } = await sql`
    select outcome from fanfare.lease_events('acc_default', 'cns_1', 10, interval '30 s', 1000, 10)
  `.execute(db);
  expect(rows).toEqual([{ outcome: 'EMPTY' }]);
  const record = await db.selectFrom('fanfare.delivery_record').selectAll().executeTakeFirstOrThrow();
  expect(record).toMatchObject({ id: 'dlv_1', status: 'PENDING', attempts: 1 });
  expect(await claimDeliveries(database, CLAIM_LIMITS)).toMatchObject([{ id: 'dlv_1', step: 1, sinceFirstMs: 0 }]);
});

it('no migration that databases have run is changed afterwards', async () => {
  const hashOf = async (file: string) =>
    createHash('sha256')
      .update(await readFile(new URL(file, ENGINE)))
      .digest('hex')
      .slice(0, 16);
  for (const [file, hash] of Object.entries(RELEASED)) expect([file, await hashOf(file)]).toEqual([file, hash]);
});

async function openEmpty(): Promise<Database> {
  const { databaseUrl, prefix } = inject('run');
  const name = `${prefix}_${randomBytes(6).toString('hex')}`;
  await withClient(databaseUrl, (client) => client.query(`create database ${name}`));
  const database = await connectPostgres({ url: urlOfDatabase(databaseUrl, name), maxConnections: 2 });
  onTestFinished(async () => {
    await database.close();
    await withClient(databaseUrl, (client) => client.query(`drop database ${name} with (force)`));
  });
  return database;
}

/** As `migrate` does, up to one migration. */
async function migrateTo({ db }: Database, last: string): Promise<void> {
  const files = (await readdir(ENGINE)).filter((file) => file.endsWith('.ts') && file.slice(0, -3) <= last);
  const load = async (file: string) =>
    [file.slice(0, -3), (await import(new URL(file, ENGINE).href)) as Migration] as const;
  const migrator = new Migrator({
    db,
    provider: { getMigrations: async () => Object.fromEntries(await Promise.all(files.map(load))) },
    migrationTableSchema: 'fanfare',
    migrationTableName: 'engine_migration',
    migrationLockTableName: 'engine_migration_lock',
  });
  expect(await migrator.migrateToLatest()).not.toHaveProperty('error', expect.anything());
}
