import SchemaBuilder, { BasePlugin, type PothosOutputFieldConfig, type SchemaTypes } from '@pothos/core';
import type { GraphQLFieldResolver } from 'graphql';
import { requireScope } from '../identity/principal.ts';
import type { EngineContext } from './context.ts';

/** The plugin's name on a builder. */
export const ENGINE_PLUGIN = 'engine';

/** Checks the `scope` of root fields before they resolve, and leaves it in the field's extensions for static checks. */
export class EnginePlugin<Types extends SchemaTypes> extends BasePlugin<Types> {
  override onOutputFieldConfig(config: PothosOutputFieldConfig<Types>): PothosOutputFieldConfig<Types> {
    const scope = scopeOf(config);
    if (config.kind === 'Query' && scope === undefined) {
      throw new Error(`Query.${config.name} needs a scope; null lets every principal read it`);
    }
    return scope === undefined ? config : { ...config, extensions: { ...config.extensions, scope } };
  }

  override wrapResolve(
    resolve: GraphQLFieldResolver<unknown, Types['Context'], object>,
    config: PothosOutputFieldConfig<Types>,
  ): GraphQLFieldResolver<unknown, Types['Context'], object> {
    const scope = scopeOf(config);
    if (typeof scope !== 'string') return resolve;
    return (parent, args, context, info) => {
      // the builder fixes the context's type; Pothos only knows that it is an object
      requireScope((context as unknown as EngineContext).principal, scope);
      return resolve(parent, args, context, info);
    };
  }
}

function scopeOf(config: { readonly pothosOptions: object }): string | null | undefined {
  const { scope } = config.pothosOptions as { scope?: string | null };
  return scope;
}

/** Makes the plugin known to Pothos; again is harmless. */
export function registerEnginePlugin(): void {
  if (SchemaBuilder.allowPluginReRegistration === false) SchemaBuilder.allowPluginReRegistration = true;
  SchemaBuilder.registerPlugin(ENGINE_PLUGIN, EnginePlugin);
}
