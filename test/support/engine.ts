import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type ExecutionResult, execute, type GraphQLSchema, parse, validate } from 'graphql';
import type { KyselyPlugin } from 'kysely';
import { sql } from 'kysely';
import { connectPostgres, type Database, openPglite } from '../../src/database/connect.ts';
import type { Domain } from '../../src/domain.ts';
import { EngineError } from '../../src/errors.ts';
import { createContext, type EngineServices } from '../../src/graphql/context.ts';
import { ENGINE_SCOPES } from '../../src/identity/principal.ts';
import { syncEventTypes } from '../../src/outbox/catalog.ts';
import { createCursorCodec } from '../../src/outbox/cursor.ts';
import type { EventFilter } from '../../src/outbox/filter.ts';
import { type EventRecord, readEvents } from '../../src/outbox/read.ts';
import { createSequencer } from '../../src/outbox/sequencer.ts';
import { createTransact } from '../../src/outbox/transact.ts';
import { systemClock } from '../../src/runtime/clock.ts';
import { newId } from '../../src/runtime/id.ts';
import { observeNothing } from '../../src/runtime/observe.ts';
import { createEmbeddedFolder, createTestDatabase } from './database.ts';

export interface RunOptions {
  readonly variables?: Readonly<Record<string, unknown>>;
  /** @default all of the engine's and the domain's */
  readonly scopes?: readonly string[];
  /** @default 'acc_default' */
  readonly accountId?: string;
  readonly narrowing?: readonly EventFilter[];
  readonly idempotencyKey?: string;
  /** Aborted: the asker has gone. */
  readonly signal?: AbortSignal;
}

/** A domain on a database, asked in-process: no socket, no sequencer of its own. */
export interface TestEngine {
  readonly services: EngineServices;
  readonly schema: GraphQLSchema;
  /** Runs a document that must succeed. The caller says what its data is. */
  run<Data>(source: string, options?: RunOptions): Promise<Data>;
  /** Runs a document that must fail, and gives what it failed with. */
  fail(source: string, options?: RunOptions): Promise<{ readonly code: string | undefined; readonly message: string }>;
  /** Gives all captured events their order, and returns the account's in it. */
  stampedEvents(accountId?: string): Promise<EventRecord[]>;
  /** A further account. */
  addAccount(): Promise<string>;
  /** Statements sent outside of transactions since the last call. */
  countReads(): number;
  close(): Promise<void>;
}

export interface TestEngineOptions {
  readonly kind: Database['kind'];
  readonly domain: Domain;
  /** Of changes at the same time: one that waits 5 s for a connection fails. Postgres only. @default 10 */
  readonly maxConnections?: number;
  /** Makes tables that the template lacks: the toy domain's. */
  readonly prepare?: (database: Database) => Promise<void>;
}

/** A domain on a fresh database of its own. */
export async function openTestEngine({
  kind,
  domain,
  maxConnections,
  prepare,
}: TestEngineOptions): Promise<TestEngine> {
  const { database, drop } = kind === 'postgres' ? await openPostgres(maxConnections) : await openEmbedded();
  await prepare?.(database);
  const engine = await createTestEngine(database, domain);
  return {
    ...engine,
    close: async () => {
      await database.close();
      await drop();
    },
  };
}

interface OpenDatabase {
  readonly database: Database;
  drop(): Promise<void>;
}

async function openPostgres(maxConnections = 10): Promise<OpenDatabase> {
  const test = await createTestDatabase();
  return { database: await connectPostgres({ url: test.url, maxConnections }), drop: test.drop };
}

async function openEmbedded(): Promise<OpenDatabase> {
  const folder = await createEmbeddedFolder();
  return { database: await openPglite({ dataDir: join(folder.dataDir, 'pglite') }), drop: folder.remove };
}

/** The services of a process, on a database that is migrated for the domain. */
export async function createEngineServices(database: Database, domain: Domain): Promise<EngineServices> {
  const { catalog, registry } = domain;
  await syncEventTypes(database, catalog);
  const accountTables = await readAccountTables(database);
  const { epoch } = await database.db.selectFrom('fanfare.installation').select('epoch').executeTakeFirstOrThrow();
  return {
    database,
    transact: createTransact({
      database,
      accountTables,
      newId: (entity) => newId(registry.prefixes.get(entity) ?? missingPrefix(entity)),
      onCaptured: () => {},
    }),
    catalog,
    registry,
    cursors: createCursorCodec({ secret: randomBytes(32) }, epoch),
    clock: systemClock,
    accountTables,
    callsUnderWay: new Map(),
    keysChanged: () => {},
    rooms: new Map(),
  };
}

function missingPrefix(entity: string): never {
  throw new Error(`idPrefixes lacks the entity "${entity}"`);
}

/** Tables with an `account_id`, as they are written in statements. */
async function readAccountTables({ db }: Database): Promise<ReadonlySet<string>> {
  const { rows } = await sql<{ name: string }>`
    select case table_schema when 'public' then table_name else table_schema || '.' || table_name end as name
    from information_schema.columns where column_name = 'account_id' and table_schema in ('public', 'fanfare')
  `.execute(db);
  return new Set(rows.map(({ name }) => name));
}

async function createTestEngine(opened: Database, domain: Domain): Promise<Omit<TestEngine, 'close'>> {
  const counter = new StatementCounter();
  const database: Database = { ...opened, db: opened.db.withPlugin(counter) };
  const services = await createEngineServices(database, domain);
  const schema = domain.toSchema();
  const ask = (source: string, options: RunOptions = {}) => executeAs({ services, schema }, source, options);
  return {
    services,
    schema,
    run: async <Data>(source: string, options?: RunOptions) => {
      const { data, errors } = await ask(source, options);
      if (errors?.[0]) throw errors[0].originalError ?? errors[0];
      // the caller's word: it wrote the document
      return data as Data;
    },
    fail: async (source, options) => {
      const { errors } = await ask(source, options);
      const error = errors?.[0]?.originalError ?? errors?.[0];
      if (error === undefined) throw new Error('expected an error, found none');
      return { code: error instanceof EngineError ? error.code : undefined, message: error.message };
    },
    stampedEvents: (accountId = 'acc_default') => stampAndRead(services, accountId),
    addAccount: () => addAccount(database),
    countReads: () => counter.take(),
  };
}

async function executeAs(
  { services, schema }: Pick<TestEngine, 'services' | 'schema'>,
  source: string,
  { variables, scopes, accountId = 'acc_default', narrowing = [], idempotencyKey, signal }: RunOptions,
): Promise<ExecutionResult> {
  const document = parse(source);
  const faults = validate(schema, document);
  if (faults.length > 0) return { errors: faults };
  const contextValue = createContext(services, {
    principal: {
      id: 'key_test',
      accountId,
      scopes: new Set(scopes ?? [...ENGINE_SCOPES, ...services.registry.scopes]),
      narrowing,
      expiresAt: undefined,
    },
    requestId: 'request-1',
    idempotencyKey,
    signal,
    readsHead: /\bhead\b/.test(source),
  });
  await contextValue.head;
  return execute({ schema, document, contextValue, ...(variables ? { variableValues: variables } : {}) });
}

async function stampAndRead(services: EngineServices, accountId: string): Promise<EventRecord[]> {
  const { database, catalog } = services;
  const sequencer = createSequencer({
    database,
    catalog,
    publish: async () => {},
    observe: observeNothing,
    owner: 'test',
    steal: true,
  });
  await sequencer.keepLeases();
  while ((await sequencer.stampBatch()) === 'more');
  await sequencer.release();
  return readEvents(database.db, { accountId, filters: [], after: 0, limit: 100_000 });
}

async function addAccount({ db }: Database): Promise<string> {
  const id = newId('acc');
  await sql`insert into fanfare.account (id, name, shard) values (${id}, 'another', fanfare.shard_of(${id}))`.execute(
    db,
  );
  return id;
}

class StatementCounter implements KyselyPlugin {
  #count = 0;

  take(): number {
    const count = this.#count;
    this.#count = 0;
    return count;
  }

  transformQuery({ node }: Parameters<KyselyPlugin['transformQuery']>[0]) {
    this.#count++;
    return node;
  }

  async transformResult({ result }: Parameters<KyselyPlugin['transformResult']>[0]) {
    return result;
  }
}
