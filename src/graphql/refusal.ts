import type { FieldMap } from '@pothos/core';
import type { Refusal } from '../errors.ts';
import { REFUSAL } from './base-types.ts';
import type { EngineBuilder } from './builder.ts';
import type { RefusalClass } from './pothos-types.ts';
import { registryOf } from './registry.ts';

export interface RefusalOptions {
  readonly description?: string;
  readonly fields?: (t: unknown) => FieldMap;
}

type RefusalRef = ReturnType<EngineBuilder['objectRef']>;

/** Declares a refusal's type, with a description and fields beside `code` and `message`. */
export function declareRefusal(builder: EngineBuilder, refusal: RefusalClass, options: RefusalOptions): RefusalRef {
  const registry = registryOf(builder);
  if (registry.refusals.has(refusal.name))
    throw new Error(`refusal "${refusal.name}" is declared twice, or after a change that lists it`);
  if (!/^[A-Z][A-Z0-9_]*$/.test(refusal.code ?? '')) {
    throw new Error(`refusal "${refusal.name}" needs a static code such as "OUT_OF_STOCK"`);
  }
  registry.refusalCodes.add(refusal.code);
  const ref = builder.objectRef<Refusal>(refusal.name);
  registry.refusals.set(refusal.name, ref);
  ref.implement({
    ...(options.description === undefined ? {} : { description: options.description }),
    interfaces: [REFUSAL],
    isTypeOf: (value) => refusalClass(value) === refusal,
    fields: (t) => options.fields?.(t) ?? {},
  });
  return ref as RefusalRef;
}

/** A refusal's type, declared now if it was not before. */
export function refusalRef(builder: EngineBuilder, refusal: RefusalClass): RefusalRef {
  // what declareRefusal put there
  const known = registryOf(builder).refusals.get(refusal.name) as RefusalRef | undefined;
  return known ?? declareRefusal(builder, refusal, {});
}

const CLASS = Symbol('class of a refusal');

/**
 * A refusal as a resolver can return it: GraphQL takes any instance of Error, also a returned one, for a failure.
 * It has the refusal's own properties, its code and its message.
 */
export function toRefusalValue(refusal: Refusal): object {
  return { ...refusal, code: refusal.code, message: refusal.message, [CLASS]: refusal.constructor };
}

/** The class of what `toRefusalValue` gave; undefined for anything else. */
export function refusalClass(value: unknown): RefusalClass | undefined {
  // what toRefusalValue put there
  return (value as { readonly [CLASS]?: RefusalClass })[CLASS];
}
