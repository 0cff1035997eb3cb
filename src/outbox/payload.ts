import { z } from 'zod';

/** A scalar of the graph that a payload field may be. */
export type PayloadScalar = 'String' | 'ID' | 'Int' | 'Float' | 'Boolean' | 'DateTime' | 'Decimal' | 'JSON';

/** What a payload field is in the graph. */
export type PayloadType =
  | { readonly kind: 'scalar'; readonly scalar: PayloadScalar }
  | { readonly kind: 'enum'; readonly name: string; readonly values: readonly string[] }
  | { readonly kind: 'list'; readonly of: PayloadField }
  | { readonly kind: 'snapshot'; readonly name: string; readonly schema: z.ZodObject };

export interface PayloadField {
  readonly type: PayloadType;
  readonly nullable: boolean;
  readonly description: string | undefined;
}

/** Facts about a schema that zod itself has no place for. */
type PayloadMark =
  | { readonly mark: 'id'; readonly entity: string }
  | { readonly mark: 'decimal' }
  | { readonly mark: 'enum'; readonly name: string }
  | { readonly mark: 'snapshot'; readonly name: string };

const marks = z.registry<PayloadMark>();

/** A reference to an entity by its id: `ID` in the graph. */
export function id(entity: string): z.ZodString {
  const schema = z.string().min(1).max(200);
  marks.add(schema, { mark: 'id', entity });
  return schema;
}

/** An exact decimal number, kept as text (`"12.50"`): `Decimal` in the graph. */
export function decimal(): z.ZodString {
  const schema = z.string().regex(/^-?\d{1,30}(\.\d{1,18})?$/, 'expected a decimal number as text, such as "12.50"');
  marks.add(schema, { mark: 'decimal' });
  return schema;
}

/** A closed set of values: an enum of this name in the graph. New values are additive. */
export function enumType<const Values extends readonly [string, ...string[]]>(name: string, values: Values) {
  const schema = z.enum(values);
  marks.add(schema, { mark: 'enum', name });
  return schema;
}

/**
 * Facts as of the commit, nested in a payload: an object type of this name that is no `Node` and has no `id`, so that
 * client caches never mix an old state into the entity.
 */
export function snapshot<Fields extends z.ZodRawShape>(name: string, fields: Fields) {
  const schema = z.strictObject(fields);
  marks.add(schema, { mark: 'snapshot', name });
  return schema;
}

/** The name that `snapshot` gave, or undefined. */
export function snapshotName(schema: z.core.$ZodType): string | undefined {
  const mark = marks.get(schema);
  return mark?.mark === 'snapshot' ? mark.name : undefined;
}

/**
 * What a zod schema is in the graph.
 * @throws Error naming the path, if the graph has no place for it.
 */
export function describeField(schema: z.core.$ZodType, path: string): PayloadField {
  if (schema instanceof z.ZodNullable) {
    return { ...describeField(schema.unwrap(), path), nullable: true };
  }
  const description = schema instanceof z.ZodType ? schema.description : undefined;
  return { type: describeType(schema, path), nullable: false, description };
}

function describeType(schema: z.core.$ZodType, path: string): PayloadType {
  const mark = marks.get(schema);
  if (mark?.mark === 'snapshot' && schema instanceof z.ZodObject) return { kind: 'snapshot', name: mark.name, schema };
  if (mark?.mark === 'enum' && schema instanceof z.ZodEnum) {
    return { kind: 'enum', name: mark.name, values: schema.options.map(String) };
  }
  if (schema instanceof z.ZodArray) return { kind: 'list', of: describeField(schema.element, `${path}[]`) };
  const scalar = describeScalar(schema, mark);
  if (scalar === undefined) throw new Error(`${path}: ${refusal(schema)}`);
  return { kind: 'scalar', scalar };
}

function describeScalar(schema: z.core.$ZodType, mark: PayloadMark | undefined): PayloadScalar | undefined {
  if (mark?.mark === 'id') return 'ID';
  if (mark?.mark === 'decimal') return 'Decimal';
  if (schema instanceof z.ZodISODateTime) return 'DateTime';
  if (schema instanceof z.ZodString) return 'String';
  if (schema instanceof z.ZodBoolean) return 'Boolean';
  if (schema instanceof z.ZodNumberFormat) return schema._zod.def.format === 'int32' ? 'Int' : undefined;
  if (schema instanceof z.ZodNumber) return 'Float';
  if (isJson(schema)) return 'JSON';
  return undefined;
}

/** `z.json()` is the only lazy schema that a payload may hold: a recursive one of another kind has no end in the graph. */
function isJson(schema: z.core.$ZodType): boolean {
  if (!(schema instanceof z.ZodLazy)) return false;
  const inner = schema.unwrap();
  return inner instanceof z.ZodUnion && inner.options.length === 6;
}

function refusal(schema: z.core.$ZodType): string {
  const found = schema._zod.def.type;
  if (found === 'optional') return 'a payload field is never absent; use nullable() instead of optional()';
  if (found === 'object') return 'a nested object needs a name in the graph; use snapshot(name, fields)';
  if (found === 'enum') return 'an enum needs a name in the graph; use enumType(name, values)';
  return `a ${found} has no place in the graph; expected z.string(), id(), z.int32(), z.number(), z.boolean(), z.iso.datetime(), decimal(), enumType(), z.json(), an array or a snapshot`;
}
