import { upcast } from '../outbox/catalog.ts';
import type { EventDefinition } from '../outbox/event.ts';
import type { EventRecord } from '../outbox/read.ts';
import { EVENT, NODE } from './base-types.ts';
import type { EngineBuilder } from './builder.ts';
import { payloadFieldOptions } from './payload-types.ts';
import { registryOf } from './registry.ts';
import { declareEventFields } from './subscription.ts';

/** Declares the type of each event, the enum `EventType`, and a subscription field for each. */
export function declareEvents(builder: EngineBuilder, events: readonly EventDefinition[]): void {
  const registry = registryOf(builder);
  if (registry.events.size > 0) throw new Error('builder.events is called once, with all events');
  for (const event of events) {
    if (registry.events.has(event.name)) throw new Error(`event "${event.name}" is declared twice`);
    registry.events.set(event.name, event);
    registry.scopes.add(event.scope);
  }
  builder.enumType('EventType', {
    description: 'What can happen. New values may be added: keep a default branch.',
    values: Object.fromEntries(
      events.map(({ enumName, name, description }) => [
        enumName,
        { value: name, ...(description ? { description } : {}) },
      ]),
    ),
  });
  for (const event of events) declareEventType(builder, event);
  declareEventFields(builder, events);
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
