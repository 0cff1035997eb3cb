import type { Refusal } from '../errors.ts';
import type { EventRecord } from '../outbox/read.ts';
import { VersionConflict } from '../outbox/version-conflict.ts';
import type { EngineBuilder } from './builder.ts';
import { FACT } from './event-plan.ts';
import { DateTimeScalar, DecimalScalar, JsonScalar } from './scalars.ts';

/** Declares what each schema starts from: scalars, root types, `Node`, `Event`, `Refusal`. */
export function declareBaseTypes(builder: EngineBuilder): void {
  builder.addScalarType('DateTime', DateTimeScalar);
  builder.addScalarType('Decimal', DecimalScalar);
  builder.addScalarType('JSON', JsonScalar);
  builder.queryType({
    description: 'Reads. None changes anything of the domain; `consumerPoll` lends events out for a while.',
  });
  builder.mutationType({
    description: 'Changes. Each is one transaction: it happens whole, with its events, or not at all.',
  });
  builder.subscriptionType({
    description: 'Events as they happen, over WebSocket or SSE, from a cursor on without gap or repeat.',
  });
  declareNode(builder);
  declareEvent(builder);
  declareRefusal(builder);
  builder.refusal(VersionConflict, {
    description: 'The object has moved on since it was read.',
    fields: (t) => ({
      id: t.exposeID('id'),
      expectedVersion: t.exposeInt('expectedVersion'),
      currentVersion: t.exposeInt('currentVersion', { description: 'Read the object again, and decide anew.' }),
    }),
  });
}

/**
 * The engine's interfaces and enums, by name. Pothos looks names up when it builds; its types know only names that a
 * builder's settings list, which is why they are cast.
 */
export const NODE = 'Node' as never;
export const EVENT = 'Event' as never;
export const REFUSAL = 'Refusal' as never;
export const EVENT_TYPE = 'EventType' as never;
export const REFUSAL_CODE = 'RefusalCode' as never;

/** Where `Node.resolveType` finds the type of a row that `node` gave. */
export const TYPE_NAME = Symbol('type name');

function declareNode(builder: EngineBuilder): void {
  const node = builder.interfaceRef<{ readonly id: string }>('Node');
  node.implement({
    description: 'An object that can be read by its id alone.',
    // TYPE_NAME is what the fields `node` and `nodes` mark a row with
    resolveType: (row) => (row as { readonly [TYPE_NAME]?: string })[TYPE_NAME],
    fields: (t) => ({
      id: t.exposeID('id', { ...FACT, description: 'Prefixed and time-ordered; unique over all types.' }),
    }),
  });
}

function declareEvent(builder: EngineBuilder): void {
  const event = builder.interfaceRef<EventRecord>('Event');
  event.implement({
    description: 'Something that happened in the domain. It never changes, and is the same on every channel.',
    resolveType: (record, context) => context.engine.registry.eventTypeName(record.name),
    fields: (t) => ({
      id: t.exposeID('id', { ...FACT, description: 'The same on every channel, and over retries of a webhook.' }),
      position: t.string({
        ...FACT,
        description: "The event's place in the account's order: 1, 2, 3 … without gap.",
        resolve: ({ position }) => String(position),
      }),
      cursor: t.string({
        ...FACT,
        description: 'Pass it as `after` to go on behind this event.',
        resolve: ({ accountId, position }, _args, { engine }) =>
          engine.cursors.encode(accountId, { kind: 'position', position }),
      }),
      type: t.field({
        ...FACT,
        type: EVENT_TYPE,
        description: 'New values may be added: keep a default branch.',
        resolve: (record: EventRecord) => record.name as never,
      }),
      name: t.exposeString('name', { ...FACT, description: 'The name on the wire: `order.placed`.' }),
      payloadVersion: t.exposeInt('payloadVersion', {
        ...FACT,
        description: 'The version that the payload was written in.',
      }),
      occurredAt: t.field({
        ...FACT,
        type: 'DateTime',
        description: 'When it was captured, to the millisecond.',
        resolve: ({ occurredAt }) => occurredAt,
      }),
      subjectType: t.exposeString('subjectType', { ...FACT, description: 'The entity that it is about: `Order`.' }),
      subjectId: t.exposeID('subjectId', { ...FACT, description: 'The id of what it is about.' }),
      subjectVersion: t.exposeInt('subjectVersion', {
        ...FACT,
        description: "The subject's version after it; rises with `position`.",
      }),
      changed: t.stringList({
        ...FACT,
        description: 'For an update, the fields that changed; empty for a fact.',
        resolve: ({ changed }) => [...changed],
      }),
      actor: t.exposeString('actor', {
        ...FACT,
        nullable: true,
        description: 'The key or program that made the change.',
      }),
      requestId: t.exposeString('requestId', {
        ...FACT,
        nullable: true,
        description: 'The request that made the change.',
      }),
      causedBy: t.exposeID('causedBy', { ...FACT, nullable: true, description: 'The event that it answers.' }),
    }),
  });
}

function declareRefusal(builder: EngineBuilder): void {
  const refusal = builder.interfaceRef<Refusal>('Refusal');
  refusal.implement({
    description: 'Why a change was not made, foreseen by the schema. Nothing was changed.',
    fields: (t) => ({
      code: t.field({ type: REFUSAL_CODE, description: 'Match on this.', resolve: ({ code }) => code as never }),
      message: t.exposeString('message', { description: 'For people.' }),
    }),
  });
}
