import { AsyncLocalStorage } from 'node:async_hooks';
import { PGlite, types as pgliteTypes } from '@electric-sql/pglite';
import {
  Kysely,
  type KyselyPlugin,
  PGliteDialect,
  type PluginTransformQueryArgs,
  PostgresDialect,
  type RootOperationNode,
  type Transaction,
} from 'kysely';
import pg from 'pg';
import { StartupError } from '../errors.ts';
import type { EngineTables } from './tables.ts';

/**
 * A database as the rooms see it. Both kinds give int8 as a safe `number`, timestamptz as `Date`, bytea as
 * `Uint8Array`, jsonb parsed.
 */
export interface Database<T = EngineTables> {
  readonly kind: 'postgres' | 'pglite';
  /**
   * Runs statements outside any transaction. Inside `transaction`'s callback it throws at once, in every mode:
   * PGlite has one session and would wait for itself for ever.
   */
  readonly db: Kysely<T>;
  /** Runs `work` in one READ COMMITTED transaction; commits if it resolves, rolls back if it rejects. Does not nest. */
  transaction<R>(work: (tx: Transaction<T>) => Promise<R>): Promise<R>;
  /** Ends all connections. Twice is harmless. */
  close(): Promise<void>;
}

export interface PostgresOptions {
  readonly url: string;
  /** @default 10 */
  readonly maxConnections?: number;
  /** Shown in `pg_stat_activity`. @default 'fanfare' */
  readonly applicationName?: string;
  /** Ends a statement that runs longer. @default 30_000 (ms) */
  readonly statementTimeoutMs?: number;
  /** Told of connections that broke while idle; the pool replaces them by itself. */
  readonly onIdleError?: (error: Error) => void;
}

/**
 * Opens a pool and tries it once.
 * @throws StartupError if the server can't be reached within 5 s, refuses the login, or is older than Postgres 15.
 */
export async function connectPostgres(options: PostgresOptions): Promise<Database> {
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.maxConnections ?? 10,
    application_name: options.applicationName ?? 'fanfare',
    statement_timeout: options.statementTimeoutMs ?? 30_000,
    idle_in_transaction_session_timeout: 60_000,
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
    types: { getTypeParser: postgresParser },
  });
  pool.on('error', (error) => options.onIdleError?.(error));
  // a connection that breaks while it is lent out fails its query; unheard, its event would end the process
  pool.on('connect', (client) => client.on('error', () => {}));
  await requirePostgres15(pool, options.url).catch(async (error: unknown) => {
    await pool.end();
    throw error;
  });
  return wrap('postgres', new Kysely<EngineTables>({ dialect: new PostgresDialect({ pool }) }), async () => {
    // Kysely ends a pool only once it has used it
    if (!pool.ended) await pool.end();
  });
}

export interface PgliteOptions {
  /** The folder; undefined keeps the database in memory. The caller holds the folder's lock. */
  readonly dataDir?: string;
}

/** Opens the embedded database. It survives `kill -9` of the process, not loss of power. */
export async function openPglite({ dataDir }: PgliteOptions): Promise<Database> {
  const pglite = await PGlite.create({
    ...(dataDir === undefined ? {} : { dataDir }),
    parsers: { [pgliteTypes.INT8]: parseInt8 },
  });
  return wrap('pglite', new Kysely<EngineTables>({ dialect: new PGliteDialect({ pglite }) }), async () => {
    if (!pglite.closed) await pglite.close();
  });
}

function wrap(kind: Database['kind'], root: Kysely<EngineTables>, end: () => Promise<void>): Database {
  const inTransaction = new AsyncLocalStorage<true>();
  const refuse = () => {
    if (inTransaction.getStore()) {
      throw new Error('another database handle was used inside a transaction: use the tx that the function was given');
    }
  };
  let closed: Promise<void> | undefined;
  return {
    kind,
    db: refuseInside(root.withPlugin(new RefusePlugin(refuse)), refuse),
    transaction: (work) => {
      refuse();
      // PGlite's driver takes no settings; read committed is Postgres's default, said so that a server's settings can't change it
      const builder = kind === 'pglite' ? root.transaction() : root.transaction().setIsolationLevel('read committed');
      return builder.execute((tx) => inTransaction.run(true, () => work(tx)));
    },
    close: () => {
      closed ??= root.destroy().then(end);
      return closed;
    },
  };
}

/** Its transactions and connections would not pass the plugin before they wait for the session. */
function refuseInside(db: Kysely<EngineTables>, refuse: () => void): Kysely<EngineTables> {
  for (const name of ['transaction', 'startTransaction', 'connection'] as const) {
    Object.defineProperty(db, name, {
      value: () => {
        refuse();
        return Reflect.apply(Kysely.prototype[name], db, []);
      },
    });
  }
  return db;
}

class RefusePlugin implements KyselyPlugin {
  readonly #refuse: () => void;

  constructor(refuse: () => void) {
    this.#refuse = refuse;
  }

  transformQuery({ node }: PluginTransformQueryArgs): RootOperationNode {
    this.#refuse();
    return node;
  }

  async transformResult<R>({ result }: { result: R }): Promise<R> {
    return result;
  }
}

const INT8 = 20;
const BYTEA = 17;

function postgresParser(oid: number, format?: 'text' | 'binary'): (value: string) => unknown {
  if (oid === INT8) return parseInt8;
  if (oid === BYTEA) return (value) => new Uint8Array(Buffer.from(value.slice(2), 'hex'));
  // the overloads of pg-types take the literal formats apart; text is the only one that this program asks for
  return pg.types.getTypeParser(oid, (format ?? 'text') as 'text');
}

function parseInt8(value: string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new RangeError(`the database holds ${value}, beyond 2^53`);
  return number;
}

async function requirePostgres15(pool: pg.Pool, url: string): Promise<void> {
  const { host } = new URL(url);
  const version = await pool
    .query<{ version: string }>('select current_setting($1) as version', ['server_version_num'])
    .then(({ rows }) => Number(rows[0]?.version))
    .catch((cause: Error) => {
      throw new StartupError(
        `Postgres at ${host || 'DATABASE_URL'} can't be used: ${cause.message || String(cause)}. Check that it runs and that DATABASE_URL names its host, port, user and database`,
        { cause },
      );
    });
  if (version < 150_000) {
    throw new StartupError(`Postgres at ${host} is version ${Math.floor(version / 10_000)}; 15 or newer is needed`);
  }
}
