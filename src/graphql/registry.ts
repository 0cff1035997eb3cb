import { EngineError } from '../errors.ts';
import type { Principal } from '../identity/principal.ts';
import type { EventDefinition } from '../outbox/event.ts';
import type { EventFilter } from '../outbox/filter.ts';

/** An entity as the engine knows it. */
export interface EntityInfo {
  /** In the graph, and as an event's subject: `Order`. */
  readonly name: string;
  readonly table: string;
  /** Needed to read it. */
  readonly scope: string;
}

/** What has been declared on a builder, by name. */
export interface Registry {
  readonly events: Map<string, EventDefinition>;
  readonly entities: Map<string, EntityInfo>;
  /** Pothos refs, by the names of what they stand for. */
  readonly eventRefs: Map<string, object>;
  readonly refusals: Map<string, object>;
  /** Connections, `PageInfo`, `Account`: types that several places ask for. */
  readonly sharedTypes: Map<string, object>;
  readonly snapshots: Map<string, { readonly schema: object; readonly ref: object }>;
  readonly enums: Map<string, { readonly values: readonly string[]; readonly ref: object }>;
  /** Scopes that any declaration names. */
  readonly scopes: Set<string>;
  /** Codes of all refusals, for the enum `RefusalCode`. */
  readonly refusalCodes: Set<string>;
  /** Id prefixes by entity, from `defineDomain` and the engine. */
  readonly prefixes: Map<string, string>;
  /** @throws Error if there is no such entity */
  entity(name: string): EntityInfo;
  entityByPrefix(prefix: string): EntityInfo | undefined;
  /** The event's type in the graph. */
  eventTypeName(name: string): string;
  /** Filters that hold exactly for the events that the principal may see. */
  visibleTo(principal: Principal): readonly EventFilter[];
}

/** An empty registry. */
export function createRegistry(): Registry {
  const events = new Map<string, EventDefinition>();
  const entities = new Map<string, EntityInfo>();
  const prefixes = new Map<string, string>();
  return {
    events,
    entities,
    eventRefs: new Map(),
    refusals: new Map(),
    sharedTypes: new Map(),
    snapshots: new Map(),
    enums: new Map(),
    scopes: new Set(),
    refusalCodes: new Set(),
    prefixes,
    entity(name) {
      const entity = entities.get(name);
      if (entity === undefined) throw new Error(`no entity is named "${name}"; declare it with builder.entity`);
      return entity;
    },
    entityByPrefix(prefix) {
      const name = [...prefixes].find(([, each]) => each === prefix)?.[0];
      return name === undefined ? undefined : entities.get(name);
    },
    eventTypeName(name) {
      const event = events.get(name);
      if (event === undefined)
        throw new EngineError('UNAVAILABLE', `this server does not know "${name}" yet; ask a newer one`);
      return event.typeName;
    },
    visibleTo(principal) {
      const all = [...events.values()];
      const allowed = all.filter(({ scope }) => principal.scopes.has(scope));
      const byScope = allowed.length === all.length ? [] : [{ types: allowed.map(({ name }) => name) }];
      return [...byScope, ...principal.narrowing];
    },
  };
}

/** The registry of a builder that `createBuilder` made. */
export function registryOf(builder: {
  readonly options: { readonly engine: { readonly registry: Registry } };
}): Registry {
  return builder.options.engine.registry;
}
