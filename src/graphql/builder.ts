import SchemaBuilder, { MutationFieldBuilder } from '@pothos/core';
import { declareBaseTypes } from './base-types.ts';
import { type ChangeDraft, declareChange } from './change.ts';
import type { EngineContext } from './context.ts';
import { installMethods } from './methods.ts';
import './pothos-types.ts';
import { ENGINE_PLUGIN, registerEnginePlugin } from './plugin.ts';
import { createRegistry } from './registry.ts';

/** What the engine fixes of a domain's Pothos builder. */
export interface BuilderSettings<Tables> {
  Context: EngineContext<Tables>;
  Scalars: {
    ID: { Input: string; Output: string };
    DateTime: { Input: Date; Output: Date | string };
    Decimal: { Input: string; Output: string };
    JSON: { Input: unknown; Output: unknown };
  };
  Defaults: 'v4';
  DefaultFieldNullability: false;
  DefaultInputFieldRequiredness: false;
  AsyncSelections: false;
}

export type BuilderTypes<Tables> = PothosSchemaTypes.ExtendDefaultTypes<BuilderSettings<Tables>>;

/** A Pothos builder with the engine's scalars, `Node`, `Event`, and the methods of pothos-types.ts on it. */
export type EngineBuilder<Tables = unknown> = PothosSchemaTypes.SchemaBuilder<BuilderTypes<Tables>>;

/**
 * Starts a domain's schema. Fields are non-null and arguments optional unless they say otherwise.
 * @typeParam Tables the domain's tables, row type by table name
 */
export function createBuilder<Tables>(): EngineBuilder<Tables> {
  registerEnginePlugin();
  installMethods();
  const builder = new SchemaBuilder<BuilderSettings<Tables>>({
    plugins: [ENGINE_PLUGIN],
    defaults: 'v4',
    defaultFieldNullability: false,
    engine: { registry: createRegistry() },
  });
  declareBaseTypes(erase(builder));
  // a mutation's name decides the names of its result's types, and Pothos tells a field its name only when it builds
  builder.mutationField = (name, field) => {
    // t.change hands out a draft in the guise of a field
    const draft = field(new MutationFieldBuilder(builder)) as unknown as ChangeDraft;
    declareChange(erase(builder), name, draft);
  };
  builder.mutationFields = () => {
    throw new Error('declare each mutation by builder.mutationField(name, (t) => t.change(…))');
  };
  return builder;
}

/** A builder as the engine's own code uses it, which knows none of the domain's tables. */
export function erase<Tables>(builder: EngineBuilder<Tables>): EngineBuilder {
  return builder as unknown as EngineBuilder;
}
