import { randomUUID } from 'node:crypto';
import type { GraphQLSchema } from 'graphql';
import { sql } from 'kysely';
import type { Config } from '../config.ts';
import type { Database } from '../database/connect.ts';
import type { Domain } from '../domain.ts';
import { StartupError } from '../errors.ts';
import type { EngineServices } from '../graphql/context.ts';
import { ensureAdminKey } from '../identity/keys.ts';
import { ENGINE_SCOPES } from '../identity/principal.ts';
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
export const CAPTURED = 'captured';
/** A batch was stamped, and its deliveries born. */
export const STAMPED = 'stamped';
/** What every process that serves should look at; `KEYS_CHANGED` is the one message so far. */
export const CONTROL = 'control';
export const KEYS_CHANGED = 'keys changed';

/** A part of the process that runs until it is told to stop. */
export type Service = (signal: AbortSignal) => Promise<void>;

export interface Engine {
  readonly services: EngineServices;
  readonly schema: GraphQLSchema;
  /** Gives the sequencer of this process the hint that there are events to stamp. */
  readonly captured: Wakeup;
  /** Gives all sequencers this hint. */
  readonly onCaptured: () => void;
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
  const onCaptured = () => {
    captured.wake();
    bus.publish(CAPTURED, '').catch(() => {}); // only a hint: the sequencers poll
  };
  const transact = createTransact({
    database,
    accountTables,
    newId: (entity) => newId(prefixOf(domain, entity)),
    onCaptured,
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
    keysChanged: () => void bus.publish(CONTROL, KEYS_CHANGED).catch(() => {}), // only a hint: the keys are polled
    rooms: new Map(),
  };
  return { services, schema, captured, onCaptured };
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
