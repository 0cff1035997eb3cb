import { z } from 'zod';
import { describeField, type PayloadField } from './payload.ts';

/** The fields that each event has of itself; a payload field of the same name is refused. */
export const EVENT_FIELDS = [
  'id',
  'position',
  'cursor',
  'type',
  'name',
  'payloadVersion',
  'occurredAt',
  'subjectType',
  'subjectId',
  'subjectVersion',
  'changed',
  'actor',
  'requestId',
  'causedBy',
] as const;

export type EventKind = 'fact' | 'update';

export interface EventOptions<Payload extends z.ZodRawShape, Kind extends EventKind> {
  /** A *fact* always emits. An *update* names the fields that changed, and emits nothing if there are none. */
  readonly kind: Kind;
  /** The payload's version, from 1. Raising it needs an `upcast` from each older one. */
  readonly version: number;
  /** The entity whose version this event raises. */
  readonly subject: string;
  /** The scope that a principal needs to see the event, on any channel. */
  readonly scope: string;
  /** Each becomes a field of the event's type. */
  readonly payload: Payload;
  /** Paths of ids inside the payload (`order.customerId`; through a list: each element) for the filter `related`. */
  readonly related: readonly string[];
  /** From version N to N + 1, for each N below `version`. Pure; applied on every read. */
  readonly upcast?: Readonly<Record<number, (older: Record<string, unknown>) => Record<string, unknown>>>;
  /** Shown in the graph. */
  readonly description?: string;
}

/** A domain event, declared once: `defineEvent('order.placed', …)`. */
export interface EventDefinition<Payload extends z.ZodRawShape = z.ZodRawShape, Kind extends EventKind = EventKind>
  extends EventOptions<Payload, Kind> {
  /** On the wire: `order.placed`. */
  readonly name: string;
  /** In the graph: `OrderPlaced`. */
  readonly typeName: string;
  /** In the graph's enum `EventType`: `ORDER_PLACED`. */
  readonly enumName: string;
  /** The subscription field: `orderPlaced`. */
  readonly fieldName: string;
  readonly schema: z.ZodObject<Payload, z.core.$strict>;
  /** What each payload field is in the graph. */
  readonly fields: ReadonlyMap<string, PayloadField>;
}

/**
 * Declares a domain event.
 * @throws Error with the path of what is wrong: a name not of the form `noun.verb`, a payload field that the graph has
 * no place for or that is named like one of `Event`'s, a related path that leads to no id, a missing upcast.
 */
export function defineEvent<const Payload extends z.ZodRawShape, const Kind extends EventKind>(
  name: string,
  options: EventOptions<Payload, Kind>,
): EventDefinition<Payload, Kind> {
  if (!/^[a-z][a-z0-9]*(\.[a-z][a-z0-9]*)+$/.test(name)) {
    throw new Error(`event "${name}": expected a name such as "order.placed": lower-case words, joined by dots`);
  }
  const words = name.split('.');
  const typeName = words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join('');
  const schema = z.strictObject(options.payload);
  const definition = {
    ...options,
    name,
    typeName,
    enumName: words.join('_').toUpperCase(),
    fieldName: typeName.charAt(0).toLowerCase() + typeName.slice(1),
    schema,
    fields: describeFields(name, schema),
  };
  checkUpcasts(name, options.version, options.upcast ?? {});
  for (const path of options.related) checkRelated(name, schema, path);
  return Object.freeze(definition);
}

function describeFields(name: string, schema: z.ZodObject): ReadonlyMap<string, PayloadField> {
  const fields = new Map<string, PayloadField>();
  for (const [key, field] of Object.entries(schema.shape)) {
    const path = `event "${name}", payload.${key}`;
    if (!/^[a-zA-Z][a-zA-Z0-9_]*$/.test(key)) throw new Error(`${path}: not a name that GraphQL allows`);
    if ((EVENT_FIELDS as readonly string[]).includes(key)) {
      throw new Error(`${path}: each event has a field "${key}" of its own; choose another name`);
    }
    fields.set(key, describeField(field, path));
  }
  return fields;
}

function checkUpcasts(name: string, version: number, upcast: Readonly<Record<number, unknown>>): void {
  if (!Number.isInteger(version) || version < 1)
    throw new Error(`event "${name}": version must be 1 or more, found ${version}`);
  for (let older = 1; older < version; older++) {
    if (typeof upcast[older] !== 'function') {
      throw new Error(`event "${name}": version ${version} needs upcast: { ${older}: (v${older}) => v${older + 1} }`);
    }
  }
}

function checkRelated(name: string, schema: z.ZodObject, path: string): void {
  let at: z.core.$ZodType = schema;
  for (const key of path.split('.')) {
    at = unwrap(at);
    const next: z.core.$ZodType | undefined = at instanceof z.ZodObject ? at.shape[key] : undefined;
    if (next === undefined) throw new Error(`event "${name}", related "${path}": there is no "${key}" in the payload`);
    at = next;
  }
  if (!(unwrap(at) instanceof z.ZodString))
    throw new Error(`event "${name}", related "${path}": expected an id, as id(…) gives`);
}

function unwrap(schema: z.core.$ZodType): z.core.$ZodType {
  if (schema instanceof z.ZodNullable) return unwrap(schema.unwrap());
  if (schema instanceof z.ZodArray) return unwrap(schema.element);
  return schema;
}
