import { join } from 'node:path';
import { sql } from 'kysely';
import { connectPostgres, type Database, openPglite } from '../../src/database/connect.ts';
import { syncEventTypes } from '../../src/outbox/catalog.ts';
import { type EventRecord, readEvents } from '../../src/outbox/read.ts';
import { type Author, createTransact, type Transact, type TransactDeps } from '../../src/outbox/transact.ts';
import { newId } from '../../src/runtime/id.ts';
import { createEmbeddedFolder, createTestDatabase } from './database.ts';
import { logCatalog } from './log-domain.ts';

export const BACKENDS = ['postgres', 'pglite'] as const;
export type Backend = (typeof BACKENDS)[number];

/** A fresh database with the event types of `log-domain.ts`, and what a test of the log does with it. */
export interface LogDatabase {
  readonly kind: Backend;
  readonly database: Database;
  /** Postgres only. */
  readonly url: string;
  readonly transact: Transact;
  /** Another pool of connections to the same database; closed with it. Postgres only. */
  connect(maxConnections?: number): Promise<Database>;
  addAccount(): Promise<string>;
  /** `fanfare.emit` with these arguments in their order. */
  emit(...args: readonly unknown[]): Promise<string | null>;
  advanceClock(ms: number): Promise<void>;
  close(): Promise<void>;
}

export async function openLog(kind: Backend, { maxConnections = 10 } = {}): Promise<LogDatabase> {
  return kind === 'postgres' ? openPostgresLog(maxConnections) : openEmbeddedLog();
}

async function openPostgresLog(maxConnections: number): Promise<LogDatabase> {
  const { url, drop } = await createTestDatabase();
  const opened: Database[] = [];
  const connect = async (max = 4) => {
    const database = await connectPostgres({ url, maxConnections: max });
    opened.push(database);
    return database;
  };
  const database = await connect(maxConnections);
  await syncEventTypes(database, logCatalog);
  const close = async () => {
    for (const each of opened) await each.close();
    await drop();
  };
  return { ...wrapLog(database), kind: 'postgres', url, connect, close };
}

async function openEmbeddedLog(): Promise<LogDatabase> {
  const folder = await createEmbeddedFolder();
  const database = await openPglite({ dataDir: join(folder.dataDir, 'pglite') });
  const connect = async () => {
    throw new Error('PGlite has one session');
  };
  await syncEventTypes(database, logCatalog);
  const close = async () => {
    await database.close();
    await folder.remove();
  };
  return { ...wrapLog(database), kind: 'pglite', url: '', connect, close };
}

/** What writes to the log of a database that the caller has opened and closes. */
export function wrapLog(database: Database): Omit<LogDatabase, 'kind' | 'url' | 'connect' | 'close'> {
  return {
    database,
    transact: transactOn(database),
    addAccount: () => addAccount(database),
    emit: (...args) => emitBySql(database, args),
    advanceClock: async (ms) => {
      await sql`update fanfare.test_clock set ahead_by = ahead_by + ${ms} * interval '1 ms'`.execute(database.db);
    },
  };
}

export function transactOn(database: Database, deps: Partial<TransactDeps> = {}): Transact {
  return createTransact({
    database,
    accountTables: new Set(['note']),
    newId: (entity) => newId(entity.toLowerCase()),
    onCaptured: () => {},
    ...deps,
  });
}

async function addAccount({ db }: Database): Promise<string> {
  const { rows } = await sql<{ id: string }>`
    with new as (select fanfare.new_id('acc', clock_timestamp()) as id)
    insert into fanfare.account (id, name, shard) select id, 'test', fanfare.shard_of(id) from new returning id
  `.execute(db);
  return rows[0]?.id ?? '';
}

async function emitBySql({ db }: Database, args: readonly unknown[]): Promise<string | null> {
  const values = args.map((value, at) => {
    const given = at === 3 && value !== null && typeof value !== 'string' ? JSON.stringify(value) : value;
    return sql`${given}${sql.raw(`::${EMIT_TYPES[at]}`)}`;
  });
  const { rows } = await sql<{ id: string | null }>`select fanfare.emit(${sql.join(values)}) as id`.execute(db);
  return rows[0]?.id ?? null;
}

const EMIT_TYPES = ['text', 'text', 'text', 'jsonb', 'text[]', 'int', 'text', 'text', 'text'];

export function authorOf(accountId: string): Author {
  return { accountId, actor: null, requestId: null, causedBy: null };
}

/** The whole log of an account. */
export function wholeLog({ db }: Database, accountId: string): Promise<EventRecord[]> {
  return readEvents(db, { accountId, filters: [], after: 0, limit: 1_000_000 });
}
