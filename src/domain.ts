import type { GraphQLSchema } from 'graphql';
import type { EngineBuilder } from './graphql/builder.ts';
import { erase } from './graphql/builder.ts';
import { type Registry, registryOf } from './graphql/registry.ts';
import { finishSchema } from './graphql/schema.ts';
import { type Catalog, createCatalog } from './outbox/catalog.ts';

export interface DomainOptions<Tables> {
  readonly builder: EngineBuilder<Tables>;
  /** For each entity, the prefix of its ids: `{ Order: 'order' }` gives `order_…`. Never to be changed. */
  readonly idPrefixes: Readonly<Record<string, string>>;
  /** Tables of the domain that belong to no account, and so have no `account_id`. @default none */
  readonly sharedTables?: readonly string[];
  /** Scopes that the domain's functions ask for themselves, beside those that its declarations name. @default none */
  readonly scopes?: readonly string[];
}

/** A business, as the engine runs it: what `schema/index.ts` exports. */
export interface Domain {
  /** Its events, and those of the engine's rooms that have been added. */
  readonly catalog: Catalog;
  readonly registry: Registry;
  readonly sharedTables: ReadonlySet<string>;
  /** Lets a room of the engine add its fields, before `toSchema`. The same function again does nothing. */
  extend(add: (builder: EngineBuilder) => void): void;
  /** Builds the schema, once. */
  toSchema(): GraphQLSchema;
}

/** Prefixes that the engine's own objects have. */
const ENGINE_PREFIXES: Readonly<Record<string, string>> = {
  Event: 'evt',
  Account: 'acc',
  Webhook: 'wh',
  Delivery: 'dlv',
  Consumer: 'cns',
  ApiKey: 'key',
};

/**
 * Closes the contract between a domain and the engine.
 * @throws Error naming what is missing or double: an entity without prefix, a prefix without entity or used twice
 */
export function defineDomain<Tables>(options: DomainOptions<Tables>): Domain {
  const builder = erase(options.builder);
  const registry = registryOf(builder);
  checkPrefixes(registry, options.idPrefixes);
  for (const scope of options.scopes ?? []) registry.scopes.add(scope);
  // not what was given to builder.events: that was kept with its payload's types by declareEvents
  let catalog = createCatalog([...registry.events.values()]);
  const added = new Set<(builder: EngineBuilder) => void>();
  let schema: GraphQLSchema | undefined;
  return {
    get catalog() {
      return catalog;
    },
    registry,
    sharedTables: new Set(options.sharedTables ?? []),
    extend(add) {
      if (added.has(add)) return;
      if (schema !== undefined) throw new Error('the schema is built already');
      added.add(add);
      add(builder);
      catalog = createCatalog([...registry.events.values()]);
    },
    toSchema() {
      schema ??= finishSchema(builder);
      return schema;
    },
  };
}

function checkPrefixes(registry: Registry, prefixes: Readonly<Record<string, string>>): void {
  const taken = new Set(Object.values(ENGINE_PREFIXES));
  for (const [entity, prefix] of Object.entries(prefixes)) {
    if (!registry.entities.has(entity))
      throw new Error(`idPrefixes names "${entity}", which no builder.entity declares`);
    if (!/^[a-z][a-z0-9]{0,15}$/.test(prefix))
      throw new Error(`the prefix "${prefix}" of ${entity} must be 1 to 16 lower-case letters and digits`);
    if (taken.has(prefix)) throw new Error(`the prefix "${prefix}" of ${entity} is taken already`);
    taken.add(prefix);
    registry.prefixes.set(entity, prefix);
  }
  for (const entity of registry.entities.keys()) {
    if (!registry.prefixes.has(entity)) throw new Error(`idPrefixes lacks the entity "${entity}"`);
  }
}
