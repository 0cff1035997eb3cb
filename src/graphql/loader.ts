import DataLoader from 'dataloader';
import type { Kysely } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import { type Principal, requireScope } from '../identity/principal.ts';
import { filterPredicate } from '../outbox/filter.ts';
import { type EventRecord, readEventsById } from '../outbox/read.ts';
import { idPrefix } from '../runtime/id.ts';
import type { Registry } from './registry.ts';
import { readVersionedRows, type VersionedRow } from './versioned-rows.ts';

/** A row of an entity's table. */
export type EntityRow = { readonly id: string } & Record<string, unknown>;

/** Batched reads of one operation. Rows of other accounts are not there. */
export interface Loaders {
  /** @throws EngineError FORBIDDEN without the entity's scope */
  entity(name: string, id: string): Promise<EntityRow | null>;
  /** The same without asking for the scope: for what the principal itself has just changed. */
  own(name: string, id: string): Promise<EntityRow | null>;
  /** Puts a row, just written or read, in place of what was loaded; with its version, if that was read with it. */
  prime(name: string, row: EntityRow, version?: number): void;
  /**
   * The version of an entity's subject, as of the row: 0 before its first event. For a row that was read without it, by a
   * domain's own query, it is read afterwards with the row anew: if that has moved on, the version is one that
   * `expectedVersion` refuses.
   */
  version(entity: string, row: EntityRow): Promise<number>;
  /** An event that the principal may see. */
  event(id: string): Promise<EventRecord | null>;
  /** Whatever the id's prefix stands for, with the name of its type in the graph. */
  node(id: string): Promise<{ readonly typeName: string; readonly row: unknown } | null>;
  /** Forgets everything: called after each change. */
  clear(): void;
}

/** Makes the loaders of one operation. */
export function createLoaders(read: Kysely<EngineTables>, principal: Principal, registry: Registry): Loaders {
  const { accountId } = principal;
  const entities = new Map<string, DataLoader<string, EntityRow | null>>();
  const checks = new Map<string, DataLoader<string, EntityRow | null>>();
  const exactVersions = new WeakMap<EntityRow, number>();

  const versions = new DataLoader<readonly [string, string], number, string>(
    (keys) => loadVersions(read, accountId, keys),
    { cacheKeyFn: ([entity, id]) => `${entity}:${id}`, maxBatchSize: 1_000 },
  );
  const events = new DataLoader<string, EventRecord | null>((ids) => loadEvents(read, principal, registry, ids), {
    maxBatchSize: 100,
  });

  /** Reads rows anew, with their versions. */
  function checkLoader(name: string): DataLoader<string, EntityRow | null> {
    return loaderOf(checks, name);
  }

  function entityLoader(name: string): DataLoader<string, EntityRow | null> {
    return loaderOf(entities, name);
  }

  function loaderOf(loaders: Map<string, DataLoader<string, EntityRow | null>>, name: string) {
    const known = loaders.get(name);
    if (known) return known;
    const { table } = registry.entity(name);
    const load = async (ids: readonly string[]) => {
      const found = await loadRows(read, { entity: name, table, accountId, ids });
      for (const { row, version } of found) exactVersions.set(row, version);
      const byId = new Map(found.map(({ row }) => [row.id, row]));
      return ids.map((id) => byId.get(id) ?? null);
    };
    const loader = new DataLoader<string, EntityRow | null>(load, { maxBatchSize: 1_000 });
    loaders.set(name, loader);
    return loader;
  }

  const loaders: Loaders = {
    async entity(name, id) {
      requireScope(principal, registry.entity(name).scope);
      return entityLoader(name).load(id);
    },
    own: (name, id) => entityLoader(name).load(id),
    prime: (name, row, version) => {
      if (version !== undefined) exactVersions.set(row, version);
      entityLoader(name).clear(row.id).prime(row.id, row);
    },
    async version(entity, row) {
      const exact = exactVersions.get(row);
      if (exact !== undefined) return exact;
      const now = await checkLoader(entity).load(row.id);
      if (now === null) return versions.load([entity, row.id]);
      const version = exactVersions.get(now) ?? 0;
      return isSameRow(row, now) ? version : Math.max(version - 1, 0);
    },
    event: (id) => events.load(id),
    async node(id) {
      const prefix = idPrefix(id);
      if (prefix === 'evt') {
        const event = await events.load(id);
        return event && { typeName: registry.eventTypeName(event.name), row: event };
      }
      const entity = prefix === undefined ? undefined : registry.entityByPrefix(prefix);
      const mayRead = entity !== undefined && principal.scopes.has(entity.scope);
      const row = mayRead ? await entityLoader(entity.name).load(id) : null;
      return entity && row ? { typeName: entity.name, row } : null;
    },
    clear() {
      entities.clear();
      checks.clear();
      versions.clearAll();
      events.clearAll();
    },
  };
  return loaders;
}

/** Of the columns that were read first: a query may have added some of its own. */
function isSameRow(row: EntityRow, now: EntityRow): boolean {
  return Object.keys(now).every(
    (column) => !(column in row) || JSON.stringify(row[column]) === JSON.stringify(now[column]),
  );
}

interface RowsRequest {
  readonly entity: string;
  readonly table: string;
  readonly accountId: string;
  readonly ids: readonly string[];
}

async function loadRows(
  read: Kysely<EngineTables>,
  { entity, table, accountId, ids }: RowsRequest,
): Promise<VersionedRow[]> {
  // which tables the domain has is not known to the engine's types; the registry's are checked at start
  const domain = read as unknown as Kysely<Record<string, { id: string; account_id: string }>>;
  const rows = domain.selectFrom(table).selectAll().where('account_id', '=', accountId).where('id', 'in', ids);
  return readVersionedRows(read, { entity, accountId, rows });
}

async function loadVersions(
  read: Kysely<EngineTables>,
  accountId: string,
  keys: readonly (readonly [string, string])[],
): Promise<number[]> {
  const rows = await read
    .selectFrom('fanfare.subject')
    .select(['type', 'id', 'version'])
    .where('account_id', '=', accountId)
    .where('type', 'in', [...new Set(keys.map(([type]) => type))])
    .where('id', 'in', [...new Set(keys.map(([, id]) => id))])
    .execute();
  const byKey = new Map(rows.map(({ type, id, version }) => [`${type}:${id}`, version]));
  return keys.map(([type, id]) => byKey.get(`${type}:${id}`) ?? 0);
}

async function loadEvents(
  read: Kysely<EngineTables>,
  principal: Principal,
  registry: Registry,
  ids: readonly string[],
): Promise<(EventRecord | null)[]> {
  if (!principal.scopes.has('events:read')) return ids.map(() => null);
  const mayShow = filterPredicate(registry.visibleTo(principal));
  const records = await readEventsById(read, principal.accountId, ids);
  const byId = new Map(records.filter(mayShow).map((record) => [record.id, record]));
  return ids.map((id) => byId.get(id) ?? null);
}
