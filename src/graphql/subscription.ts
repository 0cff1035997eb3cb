import { EngineError } from '../errors.ts';
import type { EventDefinition } from '../outbox/event.ts';
import type { EventFilter } from '../outbox/filter.ts';
import type { EventRecord } from '../outbox/read.ts';
import { EVENT } from './base-types.ts';
import type { EngineBuilder } from './builder.ts';
import { eventFilterInput, toEventFilter } from './event-filter.ts';
import { registryOf } from './registry.ts';

/** What a subscription field asks of the live room. */
export interface StreamRequest {
  readonly filter: EventFilter;
  /** The cursor to go on behind; undefined starts with the next event. */
  readonly after: string | undefined;
}

/** Reads a stream request out of a field's coerced arguments; stands in the field's extensions as `stream`. */
export type ToStreamRequest = (args: Readonly<Record<string, unknown>>) => StreamRequest;

const AFTER = 'A cursor: go on behind it, without gap or repeat. Left out: from the next event on.';

/** Declares `events` and one field per event. The live room attaches subscribers; these fields only resolve one event. */
export function declareEventFields(builder: EngineBuilder, events: readonly EventDefinition[]): void {
  const subscribe = () => {
    throw new EngineError('BAD_INPUT', 'a subscription needs a WebSocket or "Accept: text/event-stream"');
  };
  const filter = eventFilterInput(builder);
  builder.subscriptionField('events', (t) =>
    t.field({
      type: EVENT,
      description: 'All events that the key may see.',
      args: { filter: t.arg({ type: filter }), after: t.arg.string({ description: AFTER }) },
      extensions: {
        scope: 'events:read',
        stream: ((args) => ({
          filter: toEventFilter(args['filter']),
          after: toCursor(args['after']),
        })) satisfies ToStreamRequest,
      },
      subscribe,
      resolve: (event) => event as never,
    }),
  );
  for (const event of events) {
    builder.subscriptionField(event.fieldName, (t) =>
      t.field({
        type: registryOf(builder).eventRefs.get(event.name) as never,
        description: event.description ?? `\`${event.name}\`, as it happens.`,
        args: { after: t.arg.string({ description: AFTER }) },
        extensions: {
          scope: event.scope,
          stream: ((args) => ({
            filter: { types: [event.name] },
            after: toCursor(args['after']),
          })) satisfies ToStreamRequest,
        },
        subscribe,
        resolve: (record: unknown) => record as EventRecord as never,
      }),
    );
  }
}

function toCursor(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
