import type { FieldMap, RootFieldBuilder, SchemaTypes } from '@pothos/core';
import type { EventRecord } from '../outbox/read.ts';
import { NODE } from './base-types.ts';
import type { EngineBuilder } from './builder.ts';
import type { EngineContext } from './context.ts';
import type { EntityRow } from './loader.ts';
import { registryOf } from './registry.ts';

interface ErasedEntityOptions {
  readonly table: string;
  readonly scope: string;
  readonly description?: string;
  readonly fields: (t: unknown) => FieldMap;
}

/** Declares an entity: current state, with the version of its subject. */
export function declareEntity(
  builder: EngineBuilder,
  name: string,
  options: ErasedEntityOptions,
): ReturnType<EngineBuilder['objectRef']> {
  const registry = registryOf(builder);
  if (registry.entities.has(name)) throw new Error(`entity "${name}" is declared twice`);
  registry.entities.set(name, { name, table: options.table, scope: options.scope });
  registry.scopes.add(options.scope);
  const ref = builder.objectRef<EntityRow>(name);
  ref.implement({
    ...(options.description === undefined ? {} : { description: options.description }),
    interfaces: [NODE],
    extensions: { scope: options.scope },
    fields: (t) => ({
      id: t.id({ description: 'Prefixed and time-ordered; unique over all types.', resolve: ({ id }) => id }),
      version: t.int({
        description: 'Rises with each of its events. Pass it as `expectedVersion` to change only what you have read.',
        resolve: (row, _args, { loaders }) => loaders.version(name, row),
      }),
      ...options.fields(t),
    }),
  });
  return ref as ReturnType<EngineBuilder['objectRef']>;
}

interface ErasedEdgeOptions {
  readonly description: string;
  readonly id?: (parent: unknown) => string | null;
}

/** A nullable, batched edge to an entity. */
export function entityEdge(
  t: RootFieldBuilder<SchemaTypes, unknown>,
  entity: { readonly name: string },
  options: ErasedEdgeOptions,
) {
  // without an id of its own it is an edge from an event, which leads to the event's subject
  const idOf = options.id ?? ((parent: unknown) => (parent as EventRecord).subjectId);
  if (options.id === undefined && !options.description.startsWith('Current state:')) {
    throw new Error(`the edge from an event to ${entity.name} needs a description that begins with "Current state:"`);
  }
  return t.field({
    type: entity as never,
    nullable: true as never,
    description: options.description,
    extensions: options.id === undefined ? { currentState: true } : {},
    resolve: (parent: unknown, _args: unknown, context: object) => {
      const id = idOf(parent);
      // the builder fixes the context's type
      return (id === null ? null : (context as EngineContext).loaders.entity(entity.name, id)) as never;
    },
  } as never);
}

/** Whether a type parameter is an entity's ref. */
export function isEntityRef(builder: EngineBuilder, type: unknown): type is { readonly name: string } {
  if (typeof type !== 'object' || type === null || !('name' in type) || typeof type.name !== 'string') return false;
  return registryOf(builder).entities.has(type.name);
}
