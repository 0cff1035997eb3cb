import { readdir } from 'node:fs/promises';
import { basename } from 'node:path';
import { sql } from 'kysely';
import { type Migration, Migrator } from 'kysely/migration';
import { StartupError } from '../errors.ts';
import type { Database } from './connect.ts';

const ENGINE_FOLDER = new URL('../../migrations/engine/', import.meta.url);
const DOMAIN_FOLDER = new URL('../../migrations/domain/', import.meta.url);

/**
 * Brings the database forward: the engine's migrations, then the domain's, each once, in the order of their names.
 * A folder's migrations are remembered under its name. Safe to call from several processes at once: one migrates, the others wait. There is no way back.
 * @throws StartupError naming the migration that failed, or saying that the database is newer than this program.
 */
export async function migrate(database: Database, domainFolder: URL = DOMAIN_FOLDER): Promise<void> {
  await sql`create schema if not exists fanfare`.execute(database.db).catch(ignoreLostRace);
  await migrateTrack(database, 'engine', ENGINE_FOLDER);
  await migrateTrack(database, basename(domainFolder.pathname).replaceAll('-', '_'), domainFolder);
}

async function migrateTrack(database: Database, track: string, folder: URL): Promise<void> {
  const migrator = new Migrator({
    db: database.db,
    provider: { getMigrations: () => readMigrations(folder) },
    migrationTableSchema: 'fanfare',
    migrationTableName: `${track}_migration`,
    migrationLockTableName: `${track}_migration_lock`,
  });
  const { error, results } = await migrator.migrateToLatest();
  if (error === undefined) return;
  const failed = results?.find(({ status }) => status === 'Error')?.migrationName;
  const where = failed === undefined ? `the ${track} migrations` : `the ${track} migration ${failed}`;
  if (
    /^corrupted migrations: (previously|expected previously) executed/.test(error instanceof Error ? error.message : '')
  ) {
    throw new StartupError(
      `this data was made by a newer program or another branch, whose ${track} migrations this one lacks: run that one, or use another DATA_DIR or database`,
      { cause: error },
    );
  }
  throw new StartupError(
    `${where} could not be applied: ${error instanceof Error ? error.message : String(error)}. Nothing of it was kept`,
    { cause: error },
  );
}

async function readMigrations(folder: URL): Promise<Record<string, Migration>> {
  const files = (await readdir(folder)).filter((file) => /^\d{4}_\w+\.ts$/.test(file)).sort();
  const modules = await Promise.all(
    // a migration file exports `up`; a file without it fails in the migrator with its name
    files.map(async (file) => [file.slice(0, -3), (await import(new URL(file, folder).href)) as Migration] as const),
  );
  return Object.fromEntries(modules);
}

/** `create schema if not exists` is not atomic: of two processes that start together one may see 23505 or 42P06. */
function ignoreLostRace(error: unknown): void {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code !== '23505' && code !== '42P06') throw error;
}
