import type { z } from 'zod';
import { describeField, type PayloadField, type PayloadType, snapshotName } from '../outbox/payload.ts';
import type { EngineBuilder } from './builder.ts';
import { FACT } from './event-plan.ts';
import { registryOf } from './registry.ts';

type Shape = Readonly<Record<string, unknown>>;
type SnapshotRef = ReturnType<EngineBuilder['objectRef']>;

/** The object type of a snapshot schema, declared at its first use. */
export function snapshotRef(builder: EngineBuilder, schema: z.ZodObject): SnapshotRef {
  const name = snapshotName(schema);
  if (name === undefined) throw new Error('expected what snapshot(name, fields) gave');
  return declareSnapshot(builder, name, schema);
}

/** The enum type of a schema that `enumType` gave, declared at its first use. */
export function enumRef(builder: EngineBuilder, schema: z.ZodEnum): ReturnType<EngineBuilder['enumType']> {
  const { type } = describeField(schema, 'enum');
  if (type.kind !== 'enum') throw new Error('expected what enumType(name, values) gave');
  return declareEnum(builder, type);
}

/** The options of a Pothos field for a payload field of the parent `read(parent)`. */
export function payloadFieldOptions<Parent>(
  builder: EngineBuilder,
  key: string,
  field: PayloadField,
  read: (parent: Parent) => Shape,
) {
  const isList = field.type.kind === 'list';
  const itemsNullable = field.type.kind === 'list' && field.type.of.nullable;
  return {
    type: typeParam(builder, field.type) as never,
    nullable: (isList ? { list: field.nullable, items: itemsNullable } : field.nullable) as never,
    ...(field.description === undefined ? {} : { description: field.description }),
    resolve: (parent: Parent) => read(parent)[key] as never,
    ...FACT,
  };
}

function typeParam(builder: EngineBuilder, type: PayloadType): unknown {
  switch (type.kind) {
    case 'scalar':
      return type.scalar;
    case 'enum':
      return declareEnum(builder, type);
    case 'snapshot':
      return declareSnapshot(builder, type.name, type.schema);
    case 'list':
      return [typeParam(builder, type.of.type)];
  }
}

function declareSnapshot(builder: EngineBuilder, name: string, schema: z.ZodObject): SnapshotRef {
  const { snapshots } = registryOf(builder);
  const known = snapshots.get(name);
  if (known !== undefined && known.schema !== schema) throw new Error(`two snapshots are named "${name}"`);
  // what this function put there
  if (known !== undefined) return known.ref as SnapshotRef;

  const ref = builder.objectRef<Shape>(name);
  snapshots.set(name, { schema, ref });
  const fields = Object.entries(schema.shape).map(([key, field]) => {
    if (key === 'id')
      throw new Error(
        `snapshot "${name}" has a field "id": name it "${lowerFirst(name.replace(/Snapshot$/, ''))}Id", so that caches do not take it for the entity`,
      );
    return [key, describeField(field, `snapshot "${name}".${key}`)] as const;
  });
  const options = fields.map(
    ([key, field]) => [key, payloadFieldOptions<Shape>(builder, key, field, (parent) => parent)] as const,
  );
  ref.implement({
    description: schema.description ?? 'Facts as of the commit of the event that carries them.',
    fields: (t) => Object.fromEntries(options.map(([key, field]) => [key, t.field(field)])),
  });
  return ref;
}

function declareEnum(
  builder: EngineBuilder,
  type: PayloadType & { readonly kind: 'enum' },
): ReturnType<EngineBuilder['enumType']> {
  const { enums } = registryOf(builder);
  const known = enums.get(type.name);
  if (known !== undefined && known.values.join() !== type.values.join())
    throw new Error(`two enums are named "${type.name}"`);
  // what this function put there
  if (known !== undefined) return known.ref as ReturnType<EngineBuilder['enumType']>;
  const ref = builder.enumType(type.name, {
    values: type.values,
    description: 'New values may be added: keep a default branch.',
  });
  enums.set(type.name, { values: type.values, ref });
  return ref as ReturnType<EngineBuilder['enumType']>;
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
