import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { sql } from 'kysely';
import type { Bus } from '../bus/bus.ts';
import { createMemoryBus } from '../bus/memory.ts';
import { connectRedisBus } from '../bus/redis.ts';
import { parseSecretsKey } from '../config/rules.ts';
import type { Config } from '../config.ts';
import { connectPostgres, type Database, openPglite, type PostgresOptions } from '../database/connect.ts';
import { openDataFolder } from '../database/data-folder.ts';
import { migrate } from '../database/migrate.ts';
import { takeModeLock } from '../database/mode-lock.ts';
import type { StartupError } from '../errors.ts';
import { describeKeyFault, makeKey } from '../identity/key-format.ts';
import type { ConnectionLimit } from '../limits/connections.ts';
import { createMemoryConnectionLimit } from '../limits/memory.ts';
import { connectRedisConnectionLimit } from '../limits/redis.ts';
import { systemClock } from '../runtime/clock.ts';
import type { Observe } from '../runtime/observe.ts';

/** What a process keeps its data in, by mode, and the secrets that go with it. */
export interface Stores {
  /** For what clients ask. */
  readonly database: Database;
  /** For the process's own work; the same where there is one session. */
  readonly engineDatabase: Database;
  readonly bus: Bus;
  /** The places of WebSockets and event streams, by key. */
  readonly connections: ConnectionLimit;
  /** 32 bytes. */
  readonly secretsKey: Uint8Array;
  /** The admin key: given by the environment, or the folder's own. Undefined: the database has to hold keys already. */
  readonly adminKey: string | undefined;
  /** The file that holds the admin key, if it is the folder's own. */
  readonly adminKeyFile: string | undefined;
  /** Whether a lock says that nobody else can hold a lease: those of a process that died need not run out. */
  readonly isAlone: boolean;
  close(): Promise<void>;
}

export interface StoreOptions {
  readonly config: Config;
  readonly domainMigrations: URL | undefined;
  readonly observe: Observe;
  /** Called if the process can't go on. */
  readonly onFatal: (error: StartupError) => void;
}

/** Opens the stores of the configured mode and brings the database forward. Whatever was opened is closed if it fails. */
export async function openStores(options: StoreOptions): Promise<Stores> {
  const closers: (() => Promise<void>)[] = [];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    const opened =
      options.config.mode === 'embedded' ? await openEmbedded(options, closers) : await openServers(options, closers);
    return { ...opened, close };
  } catch (error) {
    await close();
    throw error;
  }
}

type Opened = Omit<Stores, 'close'>;
type Closers = (() => Promise<void>)[];

async function openEmbedded({ config, domainMigrations, observe }: StoreOptions, closers: Closers): Promise<Opened> {
  const folder = await openDataFolder(config.dataDir);
  closers.push(async () => folder.close());
  const database = await openPglite({ dataDir: join(folder.path, 'pglite') });
  closers.push(() => database.close());
  await migrate(database, domainMigrations);
  const keyText = folder.readOrCreateSecret('secrets-key', () => randomBytes(32).toString('hex'), {
    describeFault: (text) => (parseSecretsKey(text) === undefined ? 'found no 32 bytes as 64 hex digits' : undefined),
  });
  const ownKey =
    config.adminApiKey === undefined
      ? folder.readOrCreateSecret('admin-key', makeKey, { describeFault: describeKeyFault })
      : undefined;
  const bus = createMemoryBus({ observe });
  closers.push(() => bus.close());
  return {
    database,
    engineDatabase: database,
    bus,
    connections: createMemoryConnectionLimit({ limit: config.connectionsPerKey }),
    secretsKey: config.secretsKey ?? requireBytes(parseSecretsKey(keyText)),
    adminKey: config.adminApiKey ?? ownKey,
    adminKeyFile: ownKey === undefined ? undefined : join(config.dataDir, 'admin-key'),
    isAlone: true,
  };
}

async function openServers(
  { config, domainMigrations, observe, onFatal }: StoreOptions,
  closers: Closers,
): Promise<Opened> {
  if (config.mode === 'embedded') throw new Error('the embedded mode has no servers');
  const { databaseUrl: url } = config;
  const connect = async (options: Omit<PostgresOptions, 'url' | 'onIdleError'>) => {
    const opened = await connectPostgres({
      url,
      onIdleError: (error) => observe({ name: 'database.connection_lost', level: 'warn', error }),
      ...options,
    });
    closers.push(() => opened.close());
    return opened;
  };
  const database = await connect({ maxConnections: 15 });
  // clients that hold all connections of theirs must not stop the leases, the stamps and the callbacks
  const engineDatabase = await connect({ maxConnections: 6, applicationName: 'fanfare engine' });
  const isAlone = config.mode === 'single';
  closers.push(
    await takeModeLock({ url, kind: isAlone ? 'exclusive' : 'shared', clock: systemClock, onLost: onFatal }),
  );
  await migrateAtLeisure(url, domainMigrations);
  const redis =
    config.mode === 'cluster' ? { url: config.redisUrl, prefix: await installationPrefix(database) } : undefined;
  const bus = redis === undefined ? createMemoryBus({ observe }) : await connectRedisBus({ ...redis, observe });
  closers.push(() => bus.close());
  const limit = config.connectionsPerKey;
  const connections =
    redis === undefined || !config.roles.includes('api')
      ? createMemoryConnectionLimit({ limit })
      : await connectRedisConnectionLimit({ ...redis, node: randomUUID(), limit, observe });
  closers.push(() => connections.close());
  return {
    database,
    engineDatabase,
    bus,
    connections,
    secretsKey: config.secretsKey,
    adminKey: config.adminApiKey,
    adminKeyFile: undefined,
    isAlone,
  };
}

/** On a connection of its own: building an index may take longer than any statement of a client may. */
async function migrateAtLeisure(url: string, domainMigrations: URL | undefined): Promise<void> {
  const database = await connectPostgres({
    url,
    maxConnections: 2,
    applicationName: 'fanfare migration',
    statementTimeoutMs: 0,
  });
  try {
    await migrate(database, domainMigrations);
  } finally {
    await database.close();
  }
}

/** Names on Redis carry the Postgres system and the database: what was restored from a backup of another is another installation. */
async function installationPrefix(database: Database): Promise<string> {
  const { rows } = await sql<{ place: string }>`
    select system_identifier::text || '/' || current_database() as place from pg_control_system()
  `.execute(database.db);
  const place = createHash('sha256')
    .update(rows[0]?.place ?? '')
    .digest('hex')
    .slice(0, 16);
  return `ff:${place}:`;
}

function requireBytes(bytes: Uint8Array | undefined): Uint8Array {
  if (bytes === undefined) throw new Error('the secrets key was checked before');
  return bytes;
}
