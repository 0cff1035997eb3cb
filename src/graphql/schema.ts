import type { GraphQLSchema } from 'graphql';
import { lexicographicSortSchema } from 'graphql';
import type { EngineBuilder } from './builder.ts';
import { addEventFields } from './event-fields.ts';
import { closeEventTypes } from './event-types.ts';
import { addNodeFields } from './node-fields.ts';
import { addOperatorFields } from './operator-fields.ts';
import { registryOf } from './registry.ts';
import { addViewer } from './viewer.ts';

/** Adds the engine's own fields, closes the enums that grow with declarations, and builds the schema. */
export function finishSchema(builder: EngineBuilder): GraphQLSchema {
  const registry = registryOf(builder);
  addEventFields(builder);
  addNodeFields(builder);
  addViewer(builder);
  addOperatorFields(builder);
  closeEventTypes(builder);
  builder.enumType('RefusalCode', {
    description: 'Why a change was refused. New values may be added: keep a default branch.',
    values: [...registry.refusalCodes].sort(),
  });
  return lexicographicSortSchema(builder.toSchema());
}
