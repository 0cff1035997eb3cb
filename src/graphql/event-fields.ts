import { requireReadable, resolveCursor } from '../outbox/place.ts';
import type { EventRecord } from '../outbox/read.ts';
import { readEvents } from '../outbox/read.ts';
import { EVENT, EVENT_TYPE } from './base-types.ts';
import type { EngineBuilder } from './builder.ts';
import { checkPage, connectionRef, type Page, toConnection } from './connection.ts';
import type { EngineContext } from './context.ts';
import { toEventFilter } from './event-filter.ts';
import { registryOf } from './registry.ts';
import { requireEventTypes } from './visible.ts';

/** Adds `event`, `events`, `head` and `eventTypes` to Query. */
export function addEventFields(builder: EngineBuilder): void {
  builder.queryField('event', (t) =>
    t.field({
      type: EVENT,
      nullable: true,
      scope: 'events:read',
      description: 'One event by its id; null if there is none that the key may see.',
      args: { id: t.arg.id({ required: true }) },
      resolve: async (_root, { id }, { loaders }) => (await loaders.event(id)) as never,
    }),
  );
  builder.queryField('events', (t) =>
    t.field({
      type: connectionRef<EventRecord>(builder, 'Event', EVENT),
      scope: 'events:read',
      description: "The account's events in their one order.",
      args: {
        filter: t.arg({ type: 'EventFilter' as never }),
        first: t.arg.int({ description: 'At most 100; 50 if neither `first` nor `last` is given.' }),
        after: t.arg.string({ description: "Behind this cursor: an event's, a change's, or `head`." }),
        last: t.arg.int({ description: 'From the end, at most 100.' }),
        before: t.arg.string({ description: 'Before this cursor.' }),
      },
      resolve: async (_root, args, context) => {
        const page = checkPage(args);
        const rows = await readPage(context, page, args.filter);
        return toConnection(rows, page, ({ accountId, position }) =>
          context.engine.cursors.encode(accountId, { kind: 'position', position }),
        );
      },
    }),
  );
  builder.queryField('head', (t) =>
    t.string({
      scope: 'events:read',
      description:
        'The cursor of the last event, read before anything else of this operation: what the operation shows holds all events up to it.',
      resolve: async (_root, _args, { engine, accountId, head }) => {
        if (head === undefined) throw new Error('the context was made without readsHead');
        return engine.cursors.encode(accountId, { kind: 'position', position: await head });
      },
    }),
  );
  addEventTypes(builder);
}

async function readPage(context: EngineContext, page: Page, filterInput: unknown): Promise<EventRecord[]> {
  const { engine, accountId, principal } = context;
  const filter = toEventFilter(filterInput);
  requireEventTypes(engine.registry, principal, filter);
  const place = (cursor: string) => resolveCursor(engine, accountId, cursor);
  const after = page.after === undefined ? 0 : await place(page.after);
  const before = page.before === undefined ? undefined : await place(page.before);
  const events = await readEvents(engine.database.db, {
    accountId,
    filters: [filter, ...engine.registry.visibleTo(principal)],
    after,
    ...(before === undefined ? {} : { before }),
    limit: page.limit + 1,
    from: page.from,
  });
  if (page.after !== undefined) await requireReadable(engine, accountId, after);
  return events;
}

function addEventTypes(builder: EngineBuilder): void {
  const registry = registryOf(builder);
  const info = builder.objectRef<{ readonly name: string }>('EventTypeInfo');
  const event = ({ name }: { readonly name: string }) => {
    const found = registry.events.get(name);
    if (found === undefined) throw new Error(`no event is named "${name}"`);
    return found;
  };
  info.implement({
    description: 'What is known of a type of events.',
    fields: (t) => ({
      type: t.field({ type: EVENT_TYPE, resolve: ({ name }) => name as never }),
      name: t.exposeString('name', { description: 'The name on the wire: `order.placed`.' }),
      typeName: t.string({
        description: 'The type in the graph: `OrderPlaced`.',
        resolve: (each) => event(each).typeName,
      }),
      subscriptionField: t.string({
        description: 'The field of Subscription: `orderPlaced`.',
        resolve: (each) => event(each).fieldName,
      }),
      kind: t.string({ description: '`fact` or `update`.', resolve: (each) => event(each).kind }),
      payloadVersion: t.int({
        description: 'The version that is written now.',
        resolve: (each) => event(each).version,
      }),
      subjectType: t.string({ description: 'The entity that it is about.', resolve: (each) => event(each).subject }),
      scope: t.string({ description: 'Needed to see such events.', resolve: (each) => event(each).scope }),
      related: t.stringList({
        description: 'Paths of the ids that the filter `related` looks at.',
        resolve: (each) => [...event(each).related],
      }),
      description: t.string({ nullable: true, resolve: (each) => event(each).description ?? null }),
    }),
  });
  builder.queryField('eventTypes', (t) =>
    t.field({
      type: [info],
      scope: 'events:read',
      description: 'The types of events that the key may see.',
      resolve: (_root, _args, { principal }) =>
        [...registry.events.values()].filter(({ scope }) => principal.scopes.has(scope)),
    }),
  );
}
