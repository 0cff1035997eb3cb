import type { GraphQLResolveInfo } from 'graphql';
import { EngineError } from '../errors.ts';
import type { EventDefinition } from '../outbox/event.ts';
import type { EventFilter } from '../outbox/filter.ts';
import { EVENT } from './base-types.ts';
import type { EngineBuilder } from './builder.ts';
import { declareEventFilter, EVENT_FILTER, toEventFilter } from './event-filter.ts';
import { registryOf } from './registry.ts';

/** What a subscription field asks of the live room. */
export interface StreamRequest {
  readonly filter: EventFilter;
  /** The cursor to go on behind; undefined starts with the next event. */
  readonly after: string | undefined;
  /** All are needed. */
  readonly scopes: readonly string[];
}

/**
 * What `subscribe` gives for a subscription field: not events but the request for them, since the live room attaches
 * subscribers and lets equal ones share an execution.
 */
export class StreamSource implements AsyncIterable<never> {
  readonly request: StreamRequest;
  /** The root field's name or alias. */
  readonly responseKey: string;
  /** The variable that `after` is given by, if it is. */
  readonly afterVariable: string | undefined;

  constructor(request: StreamRequest, info: GraphQLResolveInfo) {
    this.request = request;
    this.responseKey = String(info.path.key);
    const after = info.fieldNodes[0]?.arguments?.find(({ name }) => name.value === 'after')?.value;
    this.afterVariable = after?.kind === 'Variable' ? after.name.value : undefined;
  }

  [Symbol.asyncIterator](): AsyncIterator<never> {
    throw new EngineError('BAD_INPUT', 'a subscription needs a WebSocket or "Accept: text/event-stream"');
  }
}

const AFTER = 'A cursor: go on behind it, without gap or repeat. Left out: from the next event on.';

/** Declares `Subscription.events`. Like each event's field it resolves one event; where events come from is not theirs to know. */
export function declareEventsField(builder: EngineBuilder): void {
  // declared now: Query.events, which is built before, names it
  const filterInput = declareEventFilter(builder);
  builder.subscriptionField('events', (t) =>
    t.field({
      type: EVENT,
      description: 'All events that the key may see.',
      args: { filter: t.arg({ type: filterInput }), after: t.arg.string({ description: AFTER }) },
      subscribe: (_root, { filter, after }, _context, info) =>
        new StreamSource({ filter: toEventFilter(filter), after: after ?? undefined, scopes: ['events:read'] }, info),
      resolve: (event) => event,
    }),
  );
}

/** Declares the subscription field of one event. */
export function declareEventField(builder: EngineBuilder, event: EventDefinition): void {
  builder.subscriptionField(event.fieldName, (t) =>
    t.field({
      type: registryOf(builder).eventRefs.get(event.name) as never,
      description: event.description ?? `\`${event.name}\`, as it happens.`,
      args: { filter: t.arg({ type: EVENT_FILTER }), after: t.arg.string({ description: AFTER }) },
      subscribe: (_root, { filter, after }, _context, info) =>
        new StreamSource(
          {
            filter: { ...toEventFilter(filter, event), types: [event.name] },
            after: after ?? undefined,
            scopes: ['events:read', event.scope],
          },
          info,
        ),
      resolve: (record) => record,
    }),
  );
}
