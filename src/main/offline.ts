import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { connectPostgres, type Database, openPglite } from '../database/connect.ts';
import { openDataFolder } from '../database/data-folder.ts';
import { takeModeLock } from '../database/mode-lock.ts';
import { StartupError } from '../errors.ts';
import { makeKey } from '../identity/key-format.ts';
import { systemClock } from '../runtime/clock.ts';
import { nearest } from '../runtime/spelling.ts';

/** An API key for `ADMIN_API_KEY`; nothing is stored. */
export function newAdminKey(): string {
  return makeKey();
}

/** 32 random bytes as 64 hex digits, for `SECRETS_KEY`. */
export function newSecretsKey(): string {
  return randomBytes(32).toString('hex');
}

/** `; did you mean "watch"?`, or nothing if no candidate is near. */
export function suggest(word: string, candidates: Iterable<string>): string {
  const near = nearest(word, candidates);
  return near === undefined ? '' : `; did you mean "${near}"?`;
}

/** Where an installation's database is. */
export interface Whereabouts {
  /** Undefined: the embedded database in `dataDir`. */
  readonly databaseUrl: string | undefined;
  readonly dataDir: string;
}

/**
 * Gives the installation a new epoch, after its log was restored from a backup: cursors of events that the backup lacks must
 * not be taken for places in what is written from now on. All cursors given out before then meet EPOCH_CHANGED.
 *
 * @returns the new epoch, 16 hex digits
 * @throws StartupError while a server runs on it (it would go on with the old epoch), or where there is no installation
 */
export async function replaceEpoch(where: Whereabouts): Promise<string> {
  const { databaseUrl: url } = where;
  return withDatabase(where, async (database) => {
    if (url === undefined) return updateEpoch(database);
    const release = await takeModeLock({ url, kind: 'exclusive', clock: systemClock, onLost: () => {} }).catch(refuse);
    return updateEpoch(database).finally(release);
  });
}

/**
 * Opens an installation's database as it is, and closes it after the work.
 * @throws StartupError where there is none, or a server has the embedded one open
 */
export async function withDatabase<T>(
  { databaseUrl, dataDir }: Whereabouts,
  work: (database: Database) => Promise<T>,
): Promise<T> {
  if (databaseUrl === undefined) return withFolder(dataDir, work);
  const database = await connectPostgres({ url: databaseUrl, maxConnections: 1, applicationName: 'fanfare offline' });
  return work(database).finally(() => database.close());
}

async function withFolder<T>(dataDir: string, work: (database: Database) => Promise<T>): Promise<T> {
  if (!existsSync(join(dataDir, 'pglite'))) {
    throw new StartupError(`there is no embedded database in ${dataDir}; set DATA_DIR, or DATABASE_URL for Postgres`);
  }
  const folder = await openDataFolder(dataDir);
  try {
    const database = await openPglite({ dataDir: join(folder.path, 'pglite') });
    return await work(database).finally(() => database.close());
  } finally {
    folder.close();
  }
}

function refuse(cause: unknown): never {
  if (!(cause instanceof StartupError)) throw cause;
  throw new StartupError('a Fanfare process works on this database; stop all of them first', { cause });
}

async function updateEpoch(database: Database): Promise<string> {
  const epoch = randomBytes(8).toString('hex');
  await database.db
    .updateTable('fanfare.installation')
    .set({ epoch })
    .execute()
    .catch((cause: unknown) => {
      throw new StartupError('this database holds no Fanfare installation; start the server on it once', { cause });
    });
  return epoch;
}
