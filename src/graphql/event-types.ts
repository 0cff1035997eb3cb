import { StartupError } from '../errors.ts';
import { upcast } from '../outbox/catalog.ts';
import type { EventDefinition } from '../outbox/event.ts';
import type { EventRecord } from '../outbox/read.ts';
import { EVENT, NODE } from './base-types.ts';
import type { EngineBuilder } from './builder.ts';
import { payloadFieldOptions } from './payload-types.ts';
import { registryOf } from './registry.ts';
import { declareEventField, declareEventsField } from './subscription.ts';

/** Declares the domain's events: the type of each, a subscription field for each, and `events`. */
export function declareEvents(builder: EngineBuilder, events: readonly EventDefinition[]): void {
  const registry = registryOf(builder);
  if (registry.events.size > 0) throw new Error('builder.events is called once, with all events');
  declareEventsField(builder);
  for (const event of events) {
    if (registry.events.has(event.name)) throw new Error(`event "${event.name}" is declared twice`);
    declareEvent(builder, event);
  }
}

/**
 * Declares events of the engine's own beside the domain's: they are asked for like any other.
 * @throws StartupError if the domain has an event of such a name
 */
export function declareOwnEvents(builder: EngineBuilder, events: readonly EventDefinition[]): void {
  for (const event of events) {
    if (registryOf(builder).events.has(event.name)) {
      throw new StartupError(
        `the domain declares the event "${event.name}", which is the engine's own: give it another name`,
      );
    }
    declareEvent(builder, event);
  }
}

/** Declares the enum `EventType`, when all events are known. */
export function closeEventTypes(builder: EngineBuilder): void {
  const events = [...registryOf(builder).events.values()];
  builder.enumType('EventType', {
    description: 'What can happen. New values may be added: keep a default branch.',
    values: Object.fromEntries(
      events.map(({ enumName, name, description }) => [
        enumName,
        { value: name, ...(description ? { description } : {}) },
      ]),
    ),
  });
}

function declareEvent(builder: EngineBuilder, event: EventDefinition): void {
  const registry = registryOf(builder);
  registry.events.set(event.name, event);
  registry.scopes.add(event.scope);
  declareEventType(builder, event);
  declareEventField(builder, event);
}

/** The type of a declared event. */
export function eventRef(builder: EngineBuilder, event: EventDefinition): ReturnType<EngineBuilder['objectRef']> {
  const ref = registryOf(builder).eventRefs.get(event.name);
  if (ref === undefined) throw new Error(`event "${event.name}" is not among those given to builder.events`);
  // what declareEventType put there
  return ref as ReturnType<EngineBuilder['objectRef']>;
}

function declareEventType(builder: EngineBuilder, event: EventDefinition): void {
  const ref = builder.objectRef<EventRecord>(event.typeName);
  registryOf(builder).eventRefs.set(event.name, ref);
  const payloads = new WeakMap<EventRecord, Record<string, unknown>>();
  const readPayload = (record: EventRecord): Record<string, unknown> => {
    const known = payloads.get(record);
    if (known) return known;
    const payload = upcast(event, record.payload, record.payloadVersion);
    payloads.set(record, payload);
    return payload;
  };
  const options = [...event.fields].map(
    ([key, field]) => [key, payloadFieldOptions<EventRecord>(builder, key, field, readPayload)] as const,
  );
  ref.implement({
    description: event.description ?? `\`${event.name}\``,
    interfaces: [EVENT, NODE],
    isTypeOf: (value) => (value as Partial<EventRecord>).name === event.name,
    fields: (t) => Object.fromEntries(options.map(([key, field]) => [key, t.field(field)])),
  });
}
