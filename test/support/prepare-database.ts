import { sql } from 'kysely';
import { connectPostgres, type Database, openPglite } from '../../src/database/connect.ts';
import { migrate } from '../../src/database/migrate.ts';

/** Migrates a Postgres database and gives it the clock that tests may move. */
export async function prepareTestDatabase(url: string): Promise<void> {
  await prepareAndClose(await connectPostgres({ url, maxConnections: 2 }));
}

/** The same for an embedded database in this folder. */
export async function prepareEmbeddedDatabase(dataDir: string): Promise<void> {
  await prepareAndClose(await openPglite({ dataDir }));
}

async function prepareAndClose(database: Database): Promise<void> {
  try {
    await migrate(database);
    await installTestClock(database);
  } finally {
    await database.close();
  }
}

/** Schedules go by `fanfare.now()`; only test databases have the table that moves it. Leases keep the real clock. */
async function installTestClock({ db }: Database): Promise<void> {
  await sql`create table fanfare.test_clock (ahead_by interval not null)`.execute(db);
  await sql`insert into fanfare.test_clock (ahead_by) values ('0')`.execute(db);
  await sql`
    create or replace function fanfare.now() returns timestamptz language sql volatile as $$
      select pg_catalog.clock_timestamp() + (select ahead_by from fanfare.test_clock)
    $$`.execute(db);
}
