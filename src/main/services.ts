import { randomUUID } from 'node:crypto';
import type { GraphQLSchema } from 'graphql';
import { sql } from 'kysely';
import type { Config } from '../config.ts';
import type { Database } from '../database/connect.ts';
import type { Domain } from '../domain.ts';
import { EngineError, StartupError } from '../errors.ts';
import type { EngineServices } from '../graphql/context.ts';
import { createPrepareDocument } from '../graphql/operation.ts';
import { createGateway } from '../http/gateway.ts';
import { createHttpServer, type HttpServer } from '../http/server.ts';
import { createKeyStore, ensureAdminKey, type KeyStore } from '../identity/keys.ts';
import { ENGINE_SCOPES } from '../identity/principal.ts';
import { createShardFeeds } from '../live/feed.ts';
import { createHub, type Hub } from '../live/hub.ts';
import { publishBatch } from '../live/message.ts';
import { syncEventTypes } from '../outbox/catalog.ts';
import { createCursorCodec } from '../outbox/cursor.ts';
import { prune } from '../outbox/prune.ts';
import { createSequencer } from '../outbox/sequencer.ts';
import { createTransact } from '../outbox/transact.ts';
import { systemClock } from '../runtime/clock.ts';
import { newId } from '../runtime/id.ts';
import { createWakeup, runLoop, type Wakeup } from '../runtime/loop.ts';
import type { Observe } from '../runtime/observe.ts';
import { completeSchema } from './schema.ts';
import { checkSecretsKey } from './secrets-check.ts';
import type { Stores } from './stores.ts';

/** Channels for hints. */
const CAPTURED = 'captured';
/** A batch was stamped, and its deliveries born. */
export const STAMPED = 'stamped';

/** A part of the process that runs until it is told to stop. */
export type Service = (signal: AbortSignal) => Promise<void>;

export interface Engine {
  readonly services: EngineServices;
  readonly schema: GraphQLSchema;
  /** Gives the sequencers the hint that there are events to stamp. */
  readonly captured: Wakeup;
}

export interface EngineOptions {
  readonly stores: Stores;
  readonly domain: Domain;
  readonly config: Config;
}

/** Builds what every role needs, on migrated stores, and writes the catalog and the admin key into the database. */
export async function createEngine({ stores, domain, config }: EngineOptions): Promise<Engine> {
  const { database, bus, secretsKey } = stores;
  const keys = { secretsKey, previousKey: config.secretsKeyPrevious };
  await checkSecretsKey(database, keys);
  const schema = completeSchema(domain);
  const captured = createWakeup();
  const installation = await database.db.selectFrom('fanfare.installation').select('epoch').executeTakeFirstOrThrow();
  const accountTables = await readAccountTables(database, domain);
  await syncEventTypes(database, domain.catalog);
  await ensureKeys(stores, domain);
  const transact = createTransact({
    database,
    accountTables,
    newId: (entity) => newId(prefixOf(domain, entity)),
    onCaptured: () => {
      captured.wake();
      bus.publish(CAPTURED, '').catch(() => {}); // only a hint: the sequencers poll
    },
  });
  const services: EngineServices = {
    database,
    transact,
    catalog: domain.catalog,
    cursors: createCursorCodec({ secret: secretsKey, previousSecret: keys.previousKey }, installation.epoch),
    clock: systemClock,
    registry: domain.registry,
    accountTables,
    callsUnderWay: new Map(),
    rooms: new Map(),
  };
  return { services, schema, captured };
}

function prefixOf(domain: Domain, entity: string): string {
  const prefix = domain.registry.prefixes.get(entity);
  if (prefix === undefined) throw new Error(`newId("${entity}"): idPrefixes has no such entity`);
  return prefix;
}

/**
 * The tables that the account guard watches.
 * @throws StartupError naming a domain table that belongs to no account and is not declared as shared
 */
async function readAccountTables(database: Database, domain: Domain): Promise<ReadonlySet<string>> {
  const { rows } = await sql<{ schema: string; name: string; has_account: boolean }>`
    select n.nspname as schema, c.relname as name,
           exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'account_id' and not a.attisdropped) as has_account
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('public', 'fanfare') and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
  `.execute(database.db);
  const entityTables = new Set([...domain.registry.entities.values()].map(({ table }) => table));
  for (const { schema, name, has_account } of rows) {
    if (schema === 'public' && entityTables.has(name) && !has_account && !domain.sharedTables.has(name)) {
      throw new StartupError(
        `the table "${name}" has no account_id; add it, or name the table in sharedTables of defineDomain`,
      );
    }
  }
  return new Set(
    rows
      .filter(({ has_account }) => has_account)
      .map(({ schema, name }) => (schema === 'public' ? name : `${schema}.${name}`)),
  );
}

async function ensureKeys({ database, adminKey }: Stores, domain: Domain): Promise<void> {
  const scopes = [...new Set([...ENGINE_SCOPES, ...domain.registry.scopes])].sort();
  if (adminKey !== undefined) return ensureAdminKey(database, adminKey, scopes);
  const key = await database.db.selectFrom('fanfare.api_key').select('id').limit(1).executeTakeFirst();
  if (key === undefined)
    throw new StartupError('there is no API key yet: set ADMIN_API_KEY to what `npx fanfare key new` prints');
}

/** The role `relay`: leases, stamps, and the daily work on partitions. */
export function createRelay({ stores, domain, engine, config, observe }: RoleOptions): Service {
  const { engineDatabase: database, bus } = stores;
  // nobody else can emit into the embedded database: each event comes with its hint
  const pollMs = database.kind === 'pglite' ? 1_000 : 100;
  const sequencer = createSequencer({
    database,
    catalog: domain.catalog,
    publish: async (batch) => {
      await Promise.all([publishBatch(bus, batch), bus.publish(STAMPED, '')]);
    },
    observe,
    owner: randomUUID(),
    steal: stores.isAlone,
  });
  return async (signal) => {
    const subscription = await bus.subscribe(
      CAPTURED,
      listenForHints(() => engine.captured.wake()),
    );
    await Promise.all([
      runLoop({
        name: 'relay.leases',
        everyMs: 1_000,
        signal,
        observe,
        work: idleAfter(() => sequencer.keepLeases()),
      }),
      runLoop({
        name: 'relay.stamp',
        everyMs: pollMs,
        signal,
        observe,
        wakeup: engine.captured,
        work: () => sequencer.stampBatch(),
      }),
      runLoop({
        name: 'relay.prune',
        everyMs: 3_600_000,
        signal,
        observe,
        work: idleAfter(() => prune(database, { retentionDays: config.retentionDays }, observe)),
      }),
    ]);
    await subscription.close();
    await sequencer
      .release()
      .catch((error: unknown) => observe({ name: 'relay.release_failed', level: 'warn', error }));
  };
}

/** A unit of work that has nothing more to do when it is done. */
export function idleAfter(work: () => Promise<void>): () => Promise<'idle'> {
  return async () => {
    await work();
    return 'idle';
  };
}

export function listenForHints(wake: () => void) {
  return { message: wake, interrupted: () => {}, resumed: wake };
}

export interface RoleOptions extends EngineOptions {
  readonly engine: Engine;
  readonly observe: Observe;
}

/** The HTTP side, and in the role `api` the live streams behind it. */
export interface Api {
  readonly server: HttpServer;
  readonly hub: Hub;
  readonly run: Service;
}

export interface ApiOptions extends RoleOptions {
  readonly metrics: () => Promise<string>;
}

export function createApi({ stores, engine, config, observe, metrics }: ApiOptions): Api {
  const { database, bus } = stores;
  const { services, schema } = engine;
  const feeds = createShardFeeds({ database, bus, observe });
  const hub = createHub({ database, cursors: services.cursors, feeds, clock: systemClock, observe });
  const keys = createKeyStore(database);
  const gateway = createGateway({
    schema,
    engine: services,
    prepareDocument: createPrepareDocument(schema),
    hub,
    keys,
    observe,
  });
  const server = createHttpServer({
    schema,
    gateway,
    graphiql: config.graphiql,
    servesGraphql: config.roles.includes('api'),
    corsOrigins: config.corsOrigins,
    readiness: () => readiness(database),
    metrics,
  });
  const run: Service = async (signal) => {
    await Promise.all([
      runLoop({ name: 'live.catch_up', everyMs: 200, signal, observe, work: createCatchUp(hub) }),
      runLoop({
        name: 'live.revocation',
        everyMs: 1_000,
        signal,
        observe,
        work: idleAfter(() => endRevoked({ hub, keys, server })),
      }),
    ]);
    await hub.close();
  };
  return { server, hub, run };
}

/** Each second while the bus works, each 200 ms while it does not. */
function createCatchUp(hub: Hub): () => Promise<'idle'> {
  let calls = 0;
  return async () => {
    if (hub.isInterrupted() || calls++ % 5 === 0) await hub.catchUp();
    return 'idle';
  };
}

interface Revocation {
  readonly hub: Hub;
  readonly keys: KeyStore;
  readonly server: HttpServer;
}

/** Each second: what a key has lost ends what depends on it. */
async function endRevoked({ hub, keys, server }: Revocation): Promise<void> {
  const owners = new Set([...hub.owners(), ...server.socketOwners()]);
  const live = await keys.refresh([...owners].map((owner) => owner.replace(/^key_/, '')));
  server.refreshSockets(live);
  for (const owner of owners) {
    const principal = live.get(owner);
    if (principal === undefined) {
      hub.end(owner, new EngineError('UNAUTHENTICATED', 'the API key was revoked or has expired'));
      // the streams' errors go out first
      setImmediate(() => server.endSockets(owner));
    } else {
      const hasLost = (scopes: readonly string[]) => scopes.some((scope) => !principal.scopes.has(scope));
      hub.end(owner, new EngineError('FORBIDDEN', 'the API key has lost a scope that this operation needs'), hasLost);
    }
  }
}

async function readiness(database: Database): Promise<string | undefined> {
  try {
    await sql`select 1`.execute(database.db);
    return undefined;
  } catch {
    return 'the database can not be reached';
  }
}
